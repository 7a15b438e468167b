//! `GET /openapi.json`: the description of this interface, generated from the types that implement it.

use std::collections::BTreeMap;

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi};

use crate::error::{Kind, Mistake, ProblemDocument};
use crate::views::{AssetStateName, DocumentStateName};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Libertum intake",
        description = "Documents of an asset in, its valuation and token out. Writes are queued: a 202 names where to follow them. Every answer of 400 and above is a problem document (RFC 9457)."
    ),
    components(schemas(ProblemDocument, Mistake, DocumentStateName, AssetStateName)),
    tags((name = "write", description = "Queue work"), (name = "read", description = "See what became of it")),
    modifiers(&Bearer)
)]
pub struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, api: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("A token of the configured OIDC issuer, with the claims `tenant` and `scope`"))
            .build();
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// What any route that needs a token may answer.
const GATE: [Kind; 10] = [
    Kind::InvalidName,
    Kind::InvalidRequest,
    Kind::Unauthenticated,
    Kind::ForbiddenScope,
    Kind::ForbiddenTenant,
    Kind::RateLimited,
    Kind::Internal,
    Kind::StorageUnavailable,
    Kind::IssuerUnavailable,
    Kind::Overloaded,
];

/// What any route with a body may answer besides.
const BODY: [Kind; 7] = [
    Kind::KeyMissing,
    Kind::TruncatedBody,
    Kind::BodyStalled,
    Kind::TooLarge,
    Kind::KeyReused,
    Kind::BrokerUnavailable,
    Kind::Draining,
];

const UPLOAD: [Kind; 5] = [
    Kind::InvalidBody,
    Kind::EmptyDocument,
    Kind::DigestMismatch,
    Kind::RequestInFlight,
    Kind::UnsupportedType,
];

macro_rules! problem_sets {
    ($($(#[$doc:meta])* $name:ident = $($kinds:expr),+;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                described(&[$(&$kinds[..]),+].concat())
            }
        }
    )*};
}

problem_sets! {
    /// The problems of an upload.
    UploadProblems = GATE, BODY, UPLOAD;
    /// The problems of a command.
    CommandProblems = GATE, BODY, [Kind::InvalidBody];
    /// The problems of a reference.
    ReferenceProblems = GATE, BODY, [Kind::InvalidBody, Kind::NotFound, Kind::BlobMismatch];
    /// The problems of a read.
    ReadProblems = GATE, [Kind::NotFound];
}

/// One response a status, its description the problems that have it.
fn described(kinds: &[Kind]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(kind.status().as_str().to_owned()).or_default().push(*kind);
    }
    by_status
        .into_iter()
        .map(|(status, kinds)| (status, RefOr::T(response(&kinds))))
        .collect()
}

fn response(kinds: &[Kind]) -> Response {
    let names: Vec<&str> = kinds.iter().map(|k| k.suffix()).collect();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemDocument"))).build();
    let mut response = ResponseBuilder::new()
        .description(names.join(", "))
        .content("application/problem+json", content);
    for header in kinds.iter().flat_map(|k| k.headers()) {
        response = response.header(*header, HeaderBuilder::new().build());
    }
    response.build()
}
