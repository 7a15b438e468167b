//! How to reach Kafka, and how the loop behaves.

use std::str::FromStr;
use std::time::Duration;

use rdkafka::ClientConfig;
use runtime::{Env, Reader, Secret};
use serde::Deserialize;

use crate::RetryPolicy;

/// How the connection to the brokers is protected; each way carries what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Security {
    Plaintext,
    Tls {
        ca_location: Option<String>,
    },
    /// SASL/SCRAM over TLS.
    Scram {
        ca_location: Option<String>,
        mechanism: ScramMechanism,
        username: String,
        password: Secret,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramMechanism {
    Sha256,
    Sha512,
}

impl FromStr for ScramMechanism {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "SCRAM-SHA-256" => Ok(Self::Sha256),
            "SCRAM-SHA-512" => Ok(Self::Sha512),
            _ => Err("it must be SCRAM-SHA-256 or SCRAM-SHA-512"),
        }
    }
}

enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslSsl,
}

impl FromStr for SecurityProtocol {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "plaintext" => Ok(Self::Plaintext),
            "ssl" => Ok(Self::Ssl),
            "sasl_ssl" => Ok(Self::SaslSsl),
            _ => Err("it must be plaintext, ssl or sasl_ssl"),
        }
    }
}

/// How members of a group agree on partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// Cooperative rebalancing, which brokers before 4.0 have only.
    Classic,
    /// KIP-848, which changes shares one member at a time: the better one where jobs come and go.
    Consumer,
}

impl FromStr for GroupProtocol {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "classic" => Ok(Self::Classic),
            "consumer" => Ok(Self::Consumer),
            _ => Err("it must be classic or consumer"),
        }
    }
}

/// Where Kafka is and how to be let in.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    pub brokers: String,
    pub security: Security,
    pub group_protocol: GroupProtocol,
    /// Put before every topic and group, so that several pools, or tests, share a cluster; usually empty.
    pub topic_prefix: String,
}

#[derive(Deserialize)]
struct RawKafka {
    kafka_brokers: Option<String>,
    kafka_security_protocol: Option<String>,
    kafka_sasl_mechanism: Option<String>,
    kafka_sasl_username: Option<String>,
    kafka_sasl_password: Option<String>,
    kafka_ssl_ca_location: Option<String>,
    kafka_group_protocol: Option<String>,
    kafka_topic_prefix: Option<String>,
}

impl KafkaConfig {
    pub fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: RawKafka = env.raw();
        let brokers = r.required("KAFKA_BROKERS", raw.kafka_brokers);
        let protocol = r.with_default("KAFKA_SECURITY_PROTOCOL", raw.kafka_security_protocol, "sasl_ssl");
        let group_protocol = r.with_default("KAFKA_GROUP_PROTOCOL", raw.kafka_group_protocol, "consumer");
        let topic_prefix = r.with_default("KAFKA_TOPIC_PREFIX", raw.kafka_topic_prefix, "");
        let security = match protocol {
            Some(SecurityProtocol::Plaintext) => Some(Security::Plaintext),
            Some(SecurityProtocol::Ssl) => r
                .optional("KAFKA_SSL_CA_LOCATION", raw.kafka_ssl_ca_location)
                .map(|ca_location| Security::Tls { ca_location }),
            Some(SecurityProtocol::SaslSsl) => {
                let ca_location = r.optional("KAFKA_SSL_CA_LOCATION", raw.kafka_ssl_ca_location);
                let mechanism = r.with_default("KAFKA_SASL_MECHANISM", raw.kafka_sasl_mechanism, "SCRAM-SHA-512");
                let username = r.required("KAFKA_SASL_USERNAME", raw.kafka_sasl_username);
                let password = r.required_secret("KAFKA_SASL_PASSWORD", raw.kafka_sasl_password);
                match (ca_location, mechanism, username, password) {
                    (Some(ca_location), Some(mechanism), Some(username), Some(password)) => Some(Security::Scram {
                        ca_location,
                        mechanism,
                        username,
                        password,
                    }),
                    _ => None,
                }
            }
            None => None,
        };
        Some(Self {
            brokers: brokers?,
            security: security?,
            group_protocol: group_protocol?,
            topic_prefix: topic_prefix?,
        })
    }

    /// A topic's or group's name on this cluster.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }

    /// A librdkafka configuration that reaches the brokers, for whatever is built on it.
    pub fn client(&self, client_id: &str) -> ClientConfig {
        let mut c = ClientConfig::new();
        c.set("bootstrap.servers", &self.brokers)
            .set("client.id", client_id)
            // Half of this delays the second connection of a start from zero; the default of 100 ms is felt.
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            .set("enable.metrics.push", "false")
            .set("allow.auto.create.topics", "false");
        let ca = |c: &mut ClientConfig, location: &Option<String>| {
            if let Some(location) = location {
                c.set("ssl.ca.location", location);
            }
        };
        match &self.security {
            Security::Plaintext => {
                c.set("security.protocol", "plaintext");
            }
            Security::Tls { ca_location } => {
                c.set("security.protocol", "ssl");
                ca(&mut c, ca_location);
            }
            Security::Scram {
                ca_location,
                mechanism,
                username,
                password,
            } => {
                let name = match mechanism {
                    ScramMechanism::Sha256 => "SCRAM-SHA-256",
                    ScramMechanism::Sha512 => "SCRAM-SHA-512",
                };
                c.set("security.protocol", "sasl_ssl").set("sasl.mechanism", name);
                c.set("sasl.username", username).set("sasl.password", password.expose());
                ca(&mut c, ca_location);
            }
        }
        c
    }

    /// The configuration of a worker's consumer, a member of the group that bears the worker's name.
    pub fn consumer(&self, worker: &str, mode: Mode) -> ClientConfig {
        // librdkafka has one fetch under way at a broker. The first is sent when the first partition is ready, and waits
        // this long when that one is empty, whatever lies in the others: felt in every start from zero. So is the end of
        // an empty partition, which is told after as long. A service waits for a living, and must not keep the broker busy.
        let fetch_wait = match mode {
            Mode::Job { .. } => "10",
            Mode::Service => "100",
        };
        let mut c = self.client(worker);
        c.set("group.id", self.name(worker))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", fetch_wait)
            // What memory a worker takes while it is behind: small answers, few of them ahead of the handlers. A message that
            // is larger comes all the same. Twice as much ahead costs as much again and gains nothing.
            .set("fetch.max.bytes", "2097152")
            .set("fetch.message.max.bytes", "262144")
            .set("queued.max.messages.kbytes", "4096")
            // A full queue is looked at again after this. The default of a second is a stall, for it drains in far less.
            .set("fetch.queue.backoff.ms", "2")
            .set("max.poll.interval.ms", "300000");
        match self.group_protocol {
            GroupProtocol::Classic => {
                c.set("group.protocol", "classic")
                    .set("partition.assignment.strategy", "cooperative-sticky")
                    // A worker that was killed is gone after this: the least that brokers allow unless told otherwise.
                    .set("session.timeout.ms", "6000")
                    .set("heartbeat.interval.ms", "1000");
            }
            GroupProtocol::Consumer => {
                // Session and heartbeat are the broker's: see `group.consumer.*` in docs/decisions/0001.
                c.set("group.protocol", "consumer");
            }
        }
        c
    }
}

/// Whether the process ends when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Ends with 0 once every assigned partition is at its end and this long has passed.
    Job { idle_exit: Duration },
    /// Goes on until told to stop.
    Service,
}

/// How the loop behaves.
#[derive(Debug, Clone)]
pub struct LoopConfig {
    pub kafka: KafkaConfig,
    pub mode: Mode,
    /// After this long no new message is begun, so that the process ends before the Job's deadline.
    pub max_run: Option<Duration>,
    /// Messages that may be in the hands of the handler at one time.
    pub max_in_flight: usize,
    /// How long a handler may hold a message before it is given up; `None`: what the worker says.
    pub stuck_after: Option<Duration>,
    pub retry: RetryPolicy,
}

#[derive(Deserialize)]
struct RawLoop {
    worker_mode: Option<String>,
    idle_exit_ms: Option<String>,
    max_run_seconds: Option<String>,
    max_in_flight: Option<String>,
    stuck_seconds: Option<String>,
}

/// A whole number of one or more.
struct Positive(usize);

impl FromStr for Positive {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .ok()
            .filter(|n| *n > 0)
            .map(Self)
            .ok_or("it must be a whole number of 1 or more")
    }
}

enum ModeName {
    Job,
    Service,
}

impl FromStr for ModeName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "job" => Ok(Self::Job),
            "service" => Ok(Self::Service),
            _ => Err("it must be job or service"),
        }
    }
}

impl LoopConfig {
    pub fn read(env: &Env, r: &mut Reader) -> Option<Self> {
        let raw: RawLoop = env.raw();
        let kafka = KafkaConfig::read(env, r);
        let mode = r.with_default("WORKER_MODE", raw.worker_mode, "job");
        let idle_exit = r
            .with_default::<u64>("IDLE_EXIT_MS", raw.idle_exit_ms, "5000")
            .map(Duration::from_millis);
        let max_run = r
            .optional::<u64>("MAX_RUN_SECONDS", raw.max_run_seconds)
            .map(|s| s.map(Duration::from_secs));
        let max_in_flight = r.with_default::<Positive>("MAX_IN_FLIGHT", raw.max_in_flight, "64").map(|n| n.0);
        let stuck_after = r.optional::<Positive>("STUCK_SECONDS", raw.stuck_seconds);
        let mode = match mode? {
            ModeName::Job => Mode::Job { idle_exit: idle_exit? },
            ModeName::Service => Mode::Service,
        };
        Some(Self {
            kafka: kafka?,
            mode,
            max_run: max_run?,
            max_in_flight: max_in_flight?,
            stuck_after: stuck_after?.map(|seconds| Duration::from_secs(seconds.0 as u64)),
            retry: RetryPolicy::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<LoopConfig, runtime::ConfigError> {
        let env: Env = vars.iter().copied().collect();
        let mut r = Reader::default();
        let config = LoopConfig::read(&env, &mut r);
        r.finish(config)
    }

    #[test]
    fn scram_over_tls_is_the_default_and_names_everything_it_lacks() {
        let text = read(&[("MAX_IN_FLIGHT", "0")]).unwrap_err().to_string();
        for name in ["KAFKA_BROKERS", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "MAX_IN_FLIGHT"] {
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn plaintext_needs_no_credentials_and_says_so() {
        let config = read(&[
            ("KAFKA_BROKERS", "127.0.0.1:9092"),
            ("KAFKA_SECURITY_PROTOCOL", "plaintext"),
            ("IDLE_EXIT_MS", "0"),
        ])
        .unwrap();
        assert_eq!(config.kafka.security, Security::Plaintext);
        assert_eq!(config.mode, Mode::Job { idle_exit: Duration::ZERO });
        assert_eq!(config.kafka.client("x").get("security.protocol"), Some("plaintext"));
    }
}
