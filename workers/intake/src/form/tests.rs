use futures::TryStreamExt as _;

use super::*;

const HEAD: &str = "--b-1\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{}\r\n--b-1\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\nContent-Type: text/csv\r\n\r\n";

fn form(text: &[u8], chunk: usize) -> Form {
    let chunks: Vec<_> = text.chunks(chunk).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    Form::new(futures::stream::iter(chunks), "b-1")
}

async fn read(text: &[u8], chunk: usize) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), FormError> {
    let mut form = form(text, chunk);
    let (metadata, headers) = form.metadata().await?;
    let chunks: Vec<Bytes> = form.file(1000).try_collect().await?;
    Ok((metadata, headers, chunks.concat()))
}

#[tokio::test]
async fn a_form_is_the_same_however_it_is_cut_into_chunks() {
    let file = "a;b\r\n--b-\r\n--b-2\r\n\r\n1;2\r\n";
    let text = format!("{HEAD}{file}\r\n--b-1--\r\n");
    for chunk in 1..text.len() + 1 {
        let (metadata, headers, bytes) = read(text.as_bytes(), chunk).await.unwrap();
        assert_eq!((metadata.as_slice(), bytes.as_slice()), (&b"{}"[..], file.as_bytes()), "{chunk}");
        assert_eq!(headers["content-type"], "text/csv");
    }
}

#[tokio::test]
async fn a_form_cut_off_anywhere_is_never_whole() {
    let text = format!("{HEAD}file\r\n--b-1--");
    for cut in 0..text.len() {
        let got = read(&text.as_bytes()[..cut], 7).await;
        assert_eq!(got.unwrap_err(), FormError::Body(BodyError::Truncated), "{cut}");
    }
}

#[tokio::test]
async fn other_forms_are_refused_with_what_to_do() {
    let part = |name: &str| format!("--b-1\r\nContent-Disposition: form-data; name={name}\r\n\r\nx\r\n");
    for (text, says) in [
        (format!("{}--b-1--", part("file")), "first part must be named metadata"),
        ("--b-1--".to_owned(), "first part must be named metadata"),
        (format!("{}--b-1--", part("metadata")), "exactly one part must follow"),
        (
            format!("{}{}--b-1--", part("metadata"), part("other")),
            "exactly one part must follow",
        ),
        (format!("{HEAD}x\r\n{}--b-1--", part("file")), "one file a request"),
        (format!("{HEAD}x\r\n{}--b-1--", part("more")), "one file a request"),
        (
            "no form at all, but text that is longer than the boundary".to_owned(),
            "does not begin with the boundary",
        ),
        ("--b-1\r\nno header\r\n\r\n".to_owned(), "headers are malformed"),
        ("--b-1x\r\nA: b\r\n\r\n".to_owned(), "headers are malformed"),
        (format!("--b-1\r\nA: {}\r\n\r\n", "x".repeat(MAX_HEADERS)), "more than 16,384"),
        (
            format!("{HEAD}x\r\n--b-1--{}", "x".repeat(MAX_HEADERS + 1)),
            "behind the form's end",
        ),
        (HEAD.replace("{}", &" ".repeat(MAX_METADATA + 1)), "more than 65,536"),
    ] {
        let error = read(text.as_bytes(), 50).await.unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    let text = format!("{HEAD}{}\r\n--b-1--", "x".repeat(1001));
    assert_eq!(read(text.as_bytes(), 50).await.unwrap_err(), FormError::Body(BodyError::TooLarge));
}

#[tokio::test]
async fn a_header_that_never_ends_is_not_held() {
    let mut sent = 0usize;
    let endless = futures::stream::repeat_with(move || {
        sent += 1000;
        assert!(sent < 3 * MAX_HEADERS, "it reads on");
        Ok(Bytes::from_static(&[b'x'; 1000]))
    });
    let begin = futures::stream::iter([Ok(Bytes::from_static(b"--b-1\r\nA: "))]);
    let mut form = Form::new(begin.chain(endless), "b-1");
    let error = form.metadata().await.unwrap_err();
    assert!(error.to_string().contains("more than 16,384"), "{error}");
}

#[test]
fn a_boundary_is_taken_or_refused() {
    let of = |value: &str| boundary(&[("boundary".to_owned(), value.to_owned())]);
    assert_eq!(of("a b").unwrap(), "a b");
    for bad in ["", "a ", "é", &"x".repeat(71)] {
        assert!(of(bad).is_err(), "{bad:?}");
    }
    assert!(boundary(&[]).is_err());
}
