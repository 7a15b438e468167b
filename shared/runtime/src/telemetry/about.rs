//! What a log line is about: fields that every line gets which is logged while a future runs.
//!
//! A `tracing` span would do as much, and would write its fields down when it begins: with every message, and most
//! messages log nothing. These are asked for when a line is written.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Names and values.
pub type Fields = Vec<(&'static str, String)>;

/// Something that lines can be about.
pub trait Describe: Send + 'static {
    fn fields(&self) -> Fields;
}

tokio::task_local! {
    static ABOUT: Arc<dyn Now>;
}

/// What lines are about at the moment; it may change while the future runs that logs them.
pub struct Subject<D>(Arc<Mutex<Option<D>>>);

impl<D> Default for Subject<D> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<D: Describe> Subject<D> {
    /// Lines are about this from now on, or about nothing.
    pub fn is(&self, about: Option<D>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = about;
    }

    /// Runs `work`; each line that it logs carries the fields of what the subject is then, in JSON as the object `span`.
    pub fn of<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F, D> {
        ABOUT.scope(self.0.clone(), work)
    }
}

trait Now: Send + Sync {
    fn fields(&self) -> Option<Fields>;
}

impl<D: Describe> Now for Mutex<Option<D>> {
    fn fields(&self) -> Option<Fields> {
        self.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(D::fields)
    }
}

fn fields() -> Option<Fields> {
    ABOUT.try_with(|now| now.fields()).ok().flatten()
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

    struct Id(&'static str);

    impl Describe for Id {
        fn fields(&self) -> Fields {
            vec![("trace_id", self.0.to_owned()), ("event.type", "a \"b\"".to_owned())]
        }
    }

    #[tokio::test]
    async fn messages_that_are_handled_side_by_side_do_not_log_each_others_ids() {
        let lines = Lines::default();
        let out = lines.clone();
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
        let layer = layer.map_event_format(Json).with_writer(move || out.clone());
        let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let row = |ids: [&'static str; 2]| {
            let subject = Arc::new(Subject::default());
            let now = subject.clone();
            subject.of(async move {
                for id in ids {
                    now.is(Some(Id(id)));
                    tracing::info!(id, "begun");
                    tokio::task::yield_now().await;
                    tracing::info!(id, "done");
                }
                now.is(None);
                tracing::info!("between two");
            })
        };
        tokio::join!(row(["one", "two"]), row(["three", "four"]));
        tracing::info!("about nothing");
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let (of_messages, of_none): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.get("id").is_some());
        assert_eq!((of_messages.len(), of_none.len()), (8, 3));
        for line in of_messages {
            assert_eq!(line["id"], line["span"]["trace_id"], "{line}");
            assert_eq!(line["span"]["event.type"], "a \"b\"");
        }
        assert!(of_none.iter().all(|line| line.get("span").is_none()), "{of_none:?}");
    }
}
