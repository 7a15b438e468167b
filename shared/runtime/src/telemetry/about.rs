//! What a log line is about: fields that every line gets which is logged while a future runs.
//!
//! A `tracing` span would do as much, and would write its fields down when it begins: with every message, and most
//! messages log nothing. These are asked for when a line is written.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Names and values.
pub type Fields = Vec<(&'static str, String)>;

/// What makes the fields when a line is written.
pub type Subject = Arc<dyn Fn() -> Fields + Send + Sync>;

tokio::task_local! {
    static ABOUT: Subject;
}

/// Runs `work`; each line that it logs carries these fields, in JSON as the object `span`.
pub fn about<F: Future>(subject: Subject, work: F) -> impl Future<Output = F::Output> {
    ABOUT.scope(subject, work)
}

fn fields() -> Option<Fields> {
    ABOUT.try_with(|fields| fields()).ok()
}

/// Adds the fields to a line of JSON.
pub(super) struct Json<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for Json<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(fields) = fields() else {
            return self.0.format_event(ctx, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        let object = line.trim_end();
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        let fields = serde_json::Value::Object(fields.collect());
        match object.strip_suffix('}') {
            Some(open) => writeln!(writer, "{open},\"span\":{fields}}}"),
            None => writer.write_str(&line),
        }
    }
}

/// Adds the fields to a line of text.
pub(super) struct Text<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for Text<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(fields) = fields() else {
            return self.0.format_event(ctx, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        writer.write_str(line.trim_end())?;
        for (name, value) in fields {
            write!(writer, " {name}={value}")?;
        }
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use tracing_subscriber::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn two_messages_that_are_handled_side_by_side_do_not_log_each_others_ids() {
        let lines = Lines::default();
        let out = lines.clone();
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
        let layer = layer.map_event_format(Json).with_writer(move || out.clone());
        let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let message = |id: &'static str| {
            let subject = Arc::new(move || vec![("trace_id", id.to_owned()), ("event.type", "a \"b\"".to_owned())]);
            about(subject, async move {
                tracing::info!(id, "begun");
                tokio::task::yield_now().await;
                tracing::info!(id, "done");
            })
        };
        tokio::join!(message("one"), message("two"));
        tracing::info!("about nothing");
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 5);
        for line in &lines[..4] {
            assert_eq!(line["id"], line["span"]["trace_id"], "{line}");
            assert_eq!(line["span"]["event.type"], "a \"b\"");
        }
        assert!(lines[4].get("span").is_none(), "{}", lines[4]);
    }
}
