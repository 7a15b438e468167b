//! An upload: what is kept of it beside its bytes, and the events that it becomes. The inbox blob's metadata holds all
//! of it, so a repeat of the request, or another process, says exactly the same as the first would have.

use std::collections::HashMap;
use std::fmt::Display;

use jiff::Timestamp;
use jiff::civil::Date;
use messages::{AssetId, AssetKey, BlobRef, DocumentSubmitted, DossierClosed, Hash32, Outgoing, Tenant, TraceParent};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use stores::BlobInfo;
use uuid::Uuid;

use crate::SOURCE;

/// The container that uploads come into; what lies there is deleted after 35 days.
pub const INBOX: &str = "inbox";

/// What metadata values carry as they are: the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A dossier to be closed behind a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    pub valuation_date: Option<Date>,
}

/// What the client said of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub asset: AssetKey,
    /// The id of the document and of its event.
    pub document_id: Uuid,
    pub filename: Option<String>,
    pub declared_type: Option<String>,
    pub received_at: Timestamp,
    pub submitted_by: String,
    pub close: Option<Close>,
    pub trace: TraceParent,
}

/// An upload whose bytes are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub upload: Upload,
    pub sha256: Hash32,
    pub size: u64,
    pub blob: BlobRef,
}

impl Upload {
    /// The blob's name in the inbox.
    pub fn blob_name(tenant: &Tenant, document_id: Uuid) -> String {
        format!("{tenant}/{document_id}")
    }

    /// Where its bytes lie, in the version of an ETag.
    pub fn blob(&self, etag: String) -> BlobRef {
        BlobRef {
            container: INBOX.to_owned(),
            name: Self::blob_name(&self.asset.tenant, self.document_id),
            etag,
        }
    }

    /// The metadata of the blob; texts are percent-encoded, since metadata is ASCII.
    pub fn metadata(&self) -> HashMap<String, String> {
        let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        let mut m = HashMap::from([
            ("tenant".to_owned(), self.asset.tenant.to_string()),
            ("asset_id".to_owned(), self.asset.asset_id.to_string()),
            ("document_id".to_owned(), self.document_id.to_string()),
            ("received_at".to_owned(), self.received_at.to_string()),
            ("submitted_by".to_owned(), encoded(&self.submitted_by)),
            ("close".to_owned(), self.close.is_some().to_string()),
            ("traceparent".to_owned(), self.trace.to_string()),
        ]);
        let mut optional = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                m.insert(name.to_owned(), value);
            }
        };
        optional("filename", self.filename.as_deref().map(encoded));
        optional("declared_type", self.declared_type.as_deref().map(encoded));
        optional("valuation_date", self.close.and_then(|c| c.valuation_date).map(|d| d.to_string()));
        m
    }
}

/// A blob in the inbox that no upload of ours wrote.
#[derive(Debug, thiserror::Error)]
#[error("the inbox blob's metadata lacks a good {0}")]
pub struct NotAnUpload(&'static str);

impl Stored {
    /// Reads what [`Upload::metadata`] wrote.
    ///
    /// # Errors
    /// When something is missing or malformed.
    pub fn from_blob(info: &BlobInfo) -> Result<Self, NotAnUpload> {
        let text = |name: &str| {
            let found = info.metadata.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
            found.map(|(_, v)| percent_decode_str(v).decode_utf8_lossy().into_owned())
        };
        fn good<T: std::str::FromStr<Err: Display>>(name: &'static str, text: Option<String>) -> Result<T, NotAnUpload> {
            text.and_then(|t| t.parse().ok()).ok_or(NotAnUpload(name))
        }
        let tenant: Tenant = good("tenant", text("tenant"))?;
        let asset_id: AssetId = good("asset_id", text("asset_id"))?;
        let valuation_date = text("valuation_date").map(|d| good("valuation_date", Some(d))).transpose()?;
        let close = good("close", text("close"))?;
        let upload = Upload {
            asset: AssetKey::new(tenant, asset_id),
            document_id: good("document_id", text("document_id"))?,
            filename: text("filename"),
            declared_type: text("declared_type"),
            received_at: good("received_at", text("received_at"))?,
            submitted_by: good("submitted_by", text("submitted_by"))?,
            close: if close { Some(Close { valuation_date }) } else { None },
            trace: good("traceparent", text("traceparent"))?,
        };
        Ok(Self {
            blob: upload.blob(info.etag.clone()),
            upload,
            sha256: good("sha256", text("sha256"))?,
            size: info.size,
        })
    }

    /// The events, in the order in which they must be acknowledged. The same upload always gives the same ids.
    pub fn events(&self) -> Vec<Outgoing> {
        let Upload {
            asset,
            document_id,
            received_at,
            submitted_by,
            ..
        } = &self.upload;
        let submitted = DocumentSubmitted {
            document_id: *document_id,
            asset_id: asset.asset_id.clone(),
            blob: self.blob.clone(),
            size: self.size,
            sha256: self.sha256,
            declared_type: self.upload.declared_type.clone(),
            filename: self.upload.filename.clone(),
            received_at: *received_at,
            submitted_by: submitted_by.clone(),
        };
        let subject = format!("documents/{document_id}");
        let first = Outgoing::first(*document_id, SOURCE, subject, asset, *received_at, self.upload.trace, &submitted);
        let closed = self.upload.close.map(|close| {
            let message = DossierClosed {
                asset_id: asset.asset_id.clone(),
                requested_by: submitted_by.clone(),
                valuation_date: close.valuation_date,
            };
            let subject = format!("assets/{}", asset.asset_id);
            Outgoing::caused_by(&first.envelope, SOURCE, subject, *received_at, &message)
        });
        std::iter::once(first).chain(closed).collect()
    }
}

#[cfg(test)]
mod tests {
    use messages::{DossierClosed, Message as _, caused_id};

    use super::*;

    fn stored(close: Option<Close>) -> Stored {
        let upload = Upload {
            asset: AssetKey::new("demo".parse().unwrap(), "a-1".parse().unwrap()),
            document_id: Uuid::from_u128(7),
            filename: Some("tasación 1% \"x\".csv".to_owned()),
            declared_type: Some("text/csv; charset=utf-8".to_owned()),
            received_at: "2026-02-03T04:05:06.789Z".parse().unwrap(),
            submitted_by: "señora|auth0".to_owned(),
            close,
            trace: TraceParent::root(),
        };
        Stored {
            blob: upload.blob("\"0x1\"".to_owned()),
            upload,
            sha256: Hash32([3; 32]),
            size: 5,
        }
    }

    #[test]
    fn an_upload_survives_its_metadata() {
        for close in [
            None,
            Some(Close { valuation_date: None }),
            Some(Close {
                valuation_date: Some(jiff::civil::date(2026, 1, 31)),
            }),
        ] {
            let stored = stored(close);
            let mut metadata = stored.upload.metadata();
            metadata.insert("sha256".to_owned(), stored.sha256.to_string());
            assert!(metadata.values().all(|v| v.is_ascii() && !v.contains('\n')), "{metadata:?}");
            let info = BlobInfo {
                etag: stored.blob.etag.clone(),
                size: stored.size,
                metadata,
            };
            assert_eq!(Stored::from_blob(&info).unwrap(), stored);
        }
    }

    #[test]
    fn a_close_follows_its_document_under_the_same_key_and_in_the_same_trace() {
        let events = stored(Some(Close { valuation_date: None })).events();
        let [document, close] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(close.envelope.event_type, DossierClosed::TYPE);
        assert_eq!(
            close.envelope.id,
            caused_id(document.envelope.id, DossierClosed::TYPE, "assets/a-1")
        );
        assert_eq!((close.topic, close.key()), (document.topic, document.key()));
        assert_eq!(close.envelope.trace.trace_id(), document.envelope.trace.trace_id());
        assert_eq!(stored(None).events().len(), 1);
    }
}
