//! Takes documents in, and closes dossiers.
//!
//! A document is verified, looked at, stored under the digest of its bytes, and read; what it says is kept with the
//! place where it says so. When the dossier is closed the facts become one sheet, and the sheet a request for a
//! valuation, or the list of what is missing.

mod assemble;
pub mod child;
mod close;
mod conclude;
mod config;
mod documents;
mod error;
mod fetch;
mod fields;
mod handler;
pub mod inspect;
mod missing;
mod prepare;
mod read;
mod scan;
mod sniff;

pub use assemble::{Assembly, Dossier, Stated};
pub use child::{Limits, Readers};
pub use conclude::{Conclusion, conclude};
pub use config::{Config, PrepareConfig};
pub use error::Error;
pub use handler::{Handler, NAME};
pub use missing::missing;
pub use prepare::prepare;
pub use read::{Facts, Found, Reading, Refusal, read};
pub use scan::{Patience, Scanner};
pub use sniff::{Detected, Kind, detect};
