//! PDF: the text of its pages, and the facts that stand behind labels in it.
//!
//! Scans have no text; nothing is guessed from pictures. Only text is looked at: no scripts, forms or attachments.

mod fonts;
mod labels;
mod lines;
mod seen;

use lopdf::{DecompressError, Document, Error, LoadOptions};

use super::{Facts, Reading, Refusal};
use labels::Found;
pub(super) use seen::see;

pub(super) const EXTRACTOR: &str = "pdf/1";
/// Pages of a document.
const MAX_PAGES: usize = 2_000;
/// Bytes that one stream of a document, or the contents of one page, may unpack to.
const MAX_STREAM: usize = 32 * 1024 * 1024;
/// Bytes that the contents of all pages may unpack to.
const MAX_CONTENT: usize = 256 * 1024 * 1024;
/// Bytes of text of all pages.
const MAX_TEXT: usize = 50 * 1024 * 1024;

/// Reads a PDF.
pub(super) fn read(bytes: &[u8]) -> Result<Reading, Refusal> {
    // What some scanners write before it would shift every offset in it.
    let start = bytes.windows(5).take(1024).position(|w| w == b"%PDF-").unwrap_or(0);
    let options = LoadOptions::with_max_decompressed_size(MAX_STREAM);
    let document = match Document::load_mem_with_options(bytes.get(start..).unwrap_or(bytes), options) {
        Ok(document) => document,
        Err(Error::InvalidPassword | Error::Decryption(_) | Error::UnsupportedSecurityHandler(_)) => {
            return Ok(Reading::NeedsPassword(super::password()));
        }
        Err(e) => return refused(&e),
    };
    // An owner's password alone only forbids printing and the like: such a document opens with an empty one.
    if document.is_encrypted() && document.encryption_state.is_none() {
        return Ok(Reading::NeedsPassword(super::password()));
    }
    let mut out = Facts::by(EXTRACTOR);
    if matches!(document.xref_recovery, Some(lopdf::xref::XrefRecovery::Reconstructed)) {
        out.problems
            .push("the file is damaged or cut off: what could be found of it was read, the rest is missing");
    }
    let pages: Vec<_> = document.page_iter().take(MAX_PAGES + 1).collect();
    if pages.is_empty() {
        return Err(Refusal::malformed(
            "the file has no pages that can be found: it is broken or cut off",
        ));
    }
    if pages.len() > MAX_PAGES {
        return Err(Refusal::too_large(format!(
            "the document has more than {MAX_PAGES} pages: send it in parts"
        )));
    }
    let (mut content_left, mut text_left, mut with_text) = (MAX_CONTENT, MAX_TEXT, 0usize);
    let mut found = Found::default();
    for (number, page) in (1u32..).zip(&pages) {
        let content = match document.get_page_content_with_limit(*page, MAX_STREAM.min(content_left)) {
            Ok(content) => content,
            Err(e) if is_bomb(&e) => return refused(&e),
            Err(_) => {
                out.problems.push(format!("page {number} could not be read"));
                continue;
            }
        };
        content_left = content_left.saturating_sub(content.len());
        let lines = match lines::of_page(&document, *page, &content) {
            Ok(lines) => lines,
            Err(e) if is_bomb(&e) => return refused(&e),
            Err(_) => {
                out.problems.push(format!("page {number} could not be read"));
                continue;
            }
        };
        let size: usize = lines.iter().map(String::len).sum();
        text_left = text_left
            .checked_sub(size)
            .ok_or_else(|| Refusal::too_large(format!("the document has more than {MAX_TEXT} bytes of text: send it in parts")))?;
        with_text += usize::from(size > 0);
        found.page(number, &lines);
    }
    if with_text == 0 {
        if out.problems.is_empty() {
            let text = "the document is stored, but no facts were taken from it: it has no text, only pictures; \
                        send its text, or state its facts in a sheet or table";
            return Ok(Reading::NotRead(Refusal::new("no-text", text)));
        }
        return Err(Refusal::malformed(out.problems.finish().join("\n")));
    }
    found.finish(&mut out);
    if with_text < pages.len() {
        out.notes
            .push(format!("{} of {} pages have no text", pages.len() - with_text, pages.len()));
    }
    if out.facts.is_empty() && out.problems.is_empty() {
        let text = "the document is stored, but no facts were taken from it: none of the labels that we know stands in its text";
        return Ok(Reading::NotRead(Refusal::new("not-recognised", text)));
    }
    Ok(Reading::Facts(out))
}

fn is_bomb(error: &Error) -> bool {
    matches!(
        error,
        Error::Decompress(DecompressError::MemoryLimitExceeded { .. } | DecompressError::TooManyFilters { .. })
    )
}

/// A PDF that the library does not open.
fn refused(error: &Error) -> Result<Reading, Refusal> {
    if is_bomb(error) {
        let text = format!(
            "a part of the document unpacks to more than {MAX_STREAM} bytes: it is kept aside, nothing was taken from it; \
             look at it before sending it again in another form"
        );
        return Ok(Reading::Quarantined(Refusal::new("limits-exceeded", text)));
    }
    let why: String = error.to_string().chars().take(200).collect();
    Err(Refusal::malformed(format!("the PDF is broken or cut off: {why}")))
}
