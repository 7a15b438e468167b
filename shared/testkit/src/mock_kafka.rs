//! librdkafka's cluster of pretended brokers, in this process: it answers as brokers do, and wrongly when it is told to.
//!
//! For what cannot be had from a real broker at will: a refused commit, a moved leader, a round trip of a second.

use std::time::Duration;

use bus::{GroupProtocol, KafkaConfig, Security};
use messages::Outgoing;
use rdkafka::ClientConfig;
use rdkafka::bindings as rd;
use rdkafka::client::Client;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::future_producer::FutureProducerContext;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

/// Brokers of the cluster, by their ids.
pub const BROKERS: [i32; 3] = [1, 2, 3];
/// How long a message may take to be written.
const DEADLINE: Duration = Duration::from_secs(20);

pub use rdkafka::types::RDKafkaRespErr as MockError;

/// Requests whose answers can be spoiled; the numbers are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
pub enum Request {
    Produce = 0,
    Fetch = 1,
    OffsetCommit = 8,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    SyncGroup = 14,
    ConsumerGroupHeartbeat = 68,
}

impl Request {
    pub const ALL: [Self; 8] = [
        Self::Produce,
        Self::Fetch,
        Self::OffsetCommit,
        Self::FindCoordinator,
        Self::JoinGroup,
        Self::Heartbeat,
        Self::SyncGroup,
        Self::ConsumerGroupHeartbeat,
    ];
}

type Context = FutureProducerContext<rdkafka::client::DefaultClientContext>;

/// A cluster. It ends with the value; who is connected to it then finds nobody.
pub struct MockKafka {
    /// The client within which the cluster lives; it also writes the messages of the tests.
    client: FutureProducer,
}

impl MockKafka {
    /// Starts [`BROKERS`] on free ports.
    ///
    /// # Panics
    /// When librdkafka refuses.
    #[allow(clippy::expect_used)]
    pub fn start() -> Self {
        let mut config = ClientConfig::new();
        config
            .set("test.mock.num.brokers", BROKERS.len().to_string())
            .set("linger.ms", "0")
            .set("message.timeout.ms", DEADLINE.as_millis().to_string());
        let mock = Self {
            client: config.create().expect("the mock cluster starts"),
        };
        // As on our brokers. With 0 the second member is never answered.
        mock.set_rebalance_delay(Duration::from_millis(1));
        mock.set_heartbeat(Duration::from_secs(1));
        mock
    }

    fn cluster(&self) -> MockCluster<'_, Context> {
        match self.inner().mock_cluster() {
            Some(cluster) => cluster,
            None => panic!("a client with mock brokers has a mock cluster"),
        }
    }

    fn inner(&self) -> &Client<Context> {
        self.client.client()
    }

    /// How a worker reaches it. The prefix tells apart what shares a cluster.
    pub fn config(&self, group_protocol: GroupProtocol, topic_prefix: &str) -> KafkaConfig {
        KafkaConfig {
            brokers: self.cluster().bootstrap_servers(),
            security: Security::Plaintext,
            group_protocol,
            topic_prefix: topic_prefix.to_owned(),
        }
    }

    /// # Panics
    /// When it is there already.
    #[allow(clippy::expect_used)]
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        let replicas = i32::try_from(BROKERS.len()).expect("few brokers");
        self.cluster().create_topic(topic, partitions, replicas).expect("the topic is new");
    }

    /// Writes an event to a topic by its whole name; where it lies then.
    ///
    /// # Panics
    /// When it is not acknowledged.
    pub async fn send(&self, topic: &str, event: &Outgoing) -> (i32, i64) {
        let headers = event.headers();
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |h, (key, value)| h.insert(Header { key, value: Some(value) }));
        let record = FutureRecord::to(topic)
            .key(event.key())
            .payload(event.value.as_slice())
            .headers(headers);
        match self.client.send(record, DEADLINE).await {
            Ok(delivery) => (delivery.partition, delivery.offset),
            Err((e, _)) => panic!("not written: {e}"),
        }
    }

    /// The next answers to such requests are these errors, one each.
    pub fn spoil(&self, request: Request, errors: &[MockError]) {
        // SAFETY: the cluster lives as long as its client, which `self` owns; librdkafka copies the errors.
        #[allow(unsafe_code)]
        unsafe {
            rd::rd_kafka_mock_push_request_errors_array(self.native(), request as i16, errors.len(), errors.as_ptr());
        }
    }

    /// Takes back what was spoiled and has not been asked for.
    pub fn clear(&self, request: Request) {
        // SAFETY: as in `spoil`.
        #[allow(unsafe_code)]
        unsafe {
            rd::rd_kafka_mock_clear_request_errors(self.native(), request as i16);
        }
    }

    /// The brokers do not know this request, as those of an older version.
    ///
    /// # Panics
    /// When librdkafka refuses.
    pub fn forget(&self, request: Request) {
        // SAFETY: as in `spoil`.
        #[allow(unsafe_code)]
        let result = unsafe { rd::rd_kafka_mock_set_apiversion(self.native(), request as i16, -1, -1) };
        assert_eq!(result, MockError::RD_KAFKA_RESP_ERR_NO_ERROR);
    }

    fn set_rebalance_delay(&self, delay: Duration) {
        // SAFETY: as in `spoil`.
        #[allow(unsafe_code)]
        unsafe {
            rd::rd_kafka_mock_group_initial_rebalance_delay_ms(self.native(), i32::try_from(delay.as_millis()).unwrap_or(i32::MAX));
        }
    }

    /// How often a member of the new protocol asks, and so hears of a change.
    fn set_heartbeat(&self, every: Duration) {
        // SAFETY: as in `spoil`.
        #[allow(unsafe_code)]
        unsafe {
            rd::rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(self.native(), i32::try_from(every.as_millis()).unwrap_or(i32::MAX));
        }
    }

    /// What rdkafka's own wrapper does not offer needs the cluster itself.
    fn native(&self) -> *mut rd::rd_kafka_mock_cluster_t {
        // SAFETY: the client is alive; the call only reads a pointer that does not change.
        #[allow(unsafe_code)]
        unsafe {
            rd::rd_kafka_handle_mock_cluster(self.inner().native_ptr())
        }
    }

    /// A topic answers with this error, or is well again.
    ///
    /// # Panics
    /// When the name has a zero in it.
    #[allow(clippy::expect_used)]
    pub fn spoil_topic(&self, topic: &str, error: MockError) {
        self.cluster().topic_error(topic, error).expect("a topic's name");
    }

    /// Another broker leads a partition, or none.
    ///
    /// # Panics
    /// When there is no such broker.
    #[allow(clippy::expect_used)]
    pub fn lead(&self, topic: &str, partition: i32, broker: Option<i32>) {
        self.cluster()
            .partition_leader(topic, partition, broker)
            .expect("a broker of the cluster");
    }

    /// Another broker coordinates a group.
    ///
    /// # Panics
    /// When librdkafka refuses.
    #[allow(clippy::expect_used)]
    pub fn coordinate(&self, group: &str, broker: i32) {
        let group = MockCoordinator::Group(group.to_owned());
        self.cluster().coordinator(group, broker).expect("a group of the cluster");
    }

    /// A broker drops its connections and takes no new ones.
    ///
    /// # Panics
    /// When there is no such broker.
    #[allow(clippy::expect_used)]
    pub fn down(&self, broker: i32) {
        self.cluster().broker_down(broker).expect("a broker of the cluster");
    }

    /// A broker takes connections again.
    ///
    /// # Panics
    /// When there is no such broker.
    #[allow(clippy::expect_used)]
    pub fn up(&self, broker: i32) {
        self.cluster().broker_up(broker).expect("a broker of the cluster");
    }

    /// Every broker answers this much later.
    ///
    /// # Panics
    /// When librdkafka refuses.
    #[allow(clippy::expect_used)]
    pub fn round_trip(&self, time: Duration) {
        for broker in BROKERS {
            self.cluster()
                .broker_round_trip_time(broker, time)
                .expect("a broker of the cluster");
        }
    }

    /// All is well again, whatever was done.
    pub fn heal(&self) {
        Request::ALL.into_iter().for_each(|r| self.clear(r));
        BROKERS.into_iter().for_each(|b| self.up(b));
        self.round_trip(Duration::ZERO);
    }
}
