//! KEDA's arithmetic, from what triggers read to jobs and replicas. Nothing here does I/O or knows the time.
//!
//! As KEDA does it (`pkg/scalers/kafka_scaler.go`, `pkg/scaling/scaledjob/metrics.go`,
//! `pkg/scaling/executor/scale_jobs.go` and `scale_scaledobjects.go`, `pkg/fallback/fallback.go` of
//! <https://github.com/kedacore/keda>), odd corners included, and by version where versions differ: whole-number
//! division before the cap on partitions, strict comparisons, ratios as floats that are rounded up last, truncation
//! toward zero, a minimum that comes before any lag.
//!
//! [`Kafka::read`] and [`Mongodb::read`] turn what was looked at into [`Measured`]; [`ScaledJob::decide`] turns that into
//! jobs to create, [`ScaledObject`] into replicas.

mod combine;
mod job;
mod kafka;
mod mongodb;
mod object;
mod strategy;
mod version;

pub use combine::{Calculation, Demand, Measured, combine};
pub use job::{Decision, Jobs, Limits, Rule, ScaledJob};
pub use kafka::{Bound, Kafka, Memory, OffsetReset, Partition, Reading};
pub use mongodb::Mongodb;
pub use object::{Behavior, Fallback, FallbackBehavior, Health, Hpa, ObjectState, ScaledObject, hpa_step};
pub use strategy::{Effective, Strategy};
pub use version::{Feature, Version};
