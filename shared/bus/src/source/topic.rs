//! What is wrong with the topic itself. In the new group protocol the broker gives a member of a topic that does not exist
//! nothing, as it does one that comes when all is taken, and librdkafka says no more than that.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::debug;

/// How long the brokers may take to answer. The thread does not poll meanwhile: only a member without a share asks.
const ANSWER: Duration = Duration::from_secs(2);

/// What the brokers say against the topic; nothing when they do not answer in time.
pub(super) fn complaint<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Option<KafkaError> {
    match consumer.fetch_metadata(Some(topic), ANSWER) {
        Ok(metadata) => {
            let error = metadata.topics().iter().find(|t| t.name() == topic)?.error()?;
            Some(KafkaError::MessageConsumption(RDKafkaErrorCode::from(error)))
        }
        Err(e) => {
            debug!(error = %e, "the brokers do not say whether the topic exists");
            None
        }
    }
}
