//! The wire: what travels between the rooms, and nothing that travels it.
//!
//! Topics, the CloudEvents envelope, payload types and ids. No I/O happens here, so that a test, a tool and a
//! worker can all speak of the same event without bringing a broker along.

mod event;
pub mod facts;
mod ids;
mod names;
mod outcomes;
mod redrives;
mod requests;
pub mod tenants;
pub mod topics;
mod trace;

pub use event::{DecodeError, Envelope, EnvelopeError, Event, Message, Outgoing, Payload, decode_json, header};
pub use ids::{caused_id, door_id, new_id};
pub use names::{Address, AssetId, AssetKey, ClusterName, Hash32, NameError, PLATFORM, Tenant};
pub use outcomes::*;
pub use redrives::*;
pub use requests::*;
pub use trace::TraceParent;
