//! One way to use Kafka: a producer, and a loop that consumes until there is nothing left.
//!
//! At least once on the wire, once in effect: offsets are committed only behind work that is done and whose events
//! are acknowledged, and handlers are upserts under ids that follow from the event's.

mod attempt;
pub mod breaker;
mod circuit;
mod config;
mod core;
pub mod dead;
mod fate;
mod hands;
mod keeper;
mod meters;
mod poison;
mod producer;
pub mod redrive;
mod run;
mod source;
mod sys;
mod worker;

pub use config::{GroupProtocol, KafkaConfig, LoopConfig, Mode, ScramMechanism, Security};
pub use fate::{Burial, DeadClass, Emit, Failure, RetryPolicy};
pub use producer::{Placed, Producer, SendError};
pub use run::{run, run_with_clock};
pub use runtime::{Change, Entries, Ledger, LedgerDown};
pub use worker::{Clock, Context, Worker};
