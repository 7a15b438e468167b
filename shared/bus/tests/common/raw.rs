//! What no client of Kafka would write, and what lies in a topic of the mock cluster.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bus::KafkaConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};

use super::mock::Mock;
use super::{event, headers};

const PATIENCE: Duration = Duration::from_secs(10);

/// How a batch claims to be compressed. What is in it is not.
#[derive(Debug, Clone, Copy)]
pub enum Codec {
    None = 0,
    DamagedGzip = 1,
    Unknown = 5,
}

/// Writes an event with the time of another clock.
pub async fn write_at(mock: &Mock, asset: &str, millis: i64) {
    let event = event(asset);
    let record = FutureRecord::to(&mock.topic)
        .key(event.key().as_bytes())
        .payload(event.value.as_slice())
        .headers(headers(&event))
        .timestamp(millis);
    let placed = mock.producer.send_record(record).await.unwrap();
    let place = (event.envelope.id, asset.to_owned(), placed.partition, placed.offset);
    mock.sent.lock().unwrap().push(place);
}

/// Writes a batch that cannot be unpacked; its offset. The first broker must lead.
pub fn write_packed(mock: &Mock, partition: i32, codec: Codec) -> i64 {
    write(mock, partition, &batch(codec, b"nobody can unpack this"))
}

/// Writes an event with one more header, whose name is these bytes. The first broker must lead.
pub fn write_with_header(mock: &Mock, partition: i32, asset: &str, name: &[u8]) {
    let event = event(asset);
    let own = event.headers();
    let mut headers: Vec<(&[u8], &[u8])> = own.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    headers.insert(0, (name, b"odd"));
    let mut record = vec![0, 0, 0]; // attributes, and time and offset from the batch's
    let field = |record: &mut Vec<u8>, bytes: &[u8]| {
        record.extend(varint(bytes.len()));
        record.extend(bytes);
    };
    field(&mut record, event.key().as_bytes());
    field(&mut record, &event.value);
    record.extend(varint(headers.len()));
    for (name, value) in headers {
        field(&mut record, name);
        field(&mut record, value);
    }
    let mut records = varint(record.len());
    records.extend(record);
    let offset = write(mock, partition, &batch(Codec::None, &records));
    let place = (event.envelope.id, asset.to_owned(), partition, offset);
    mock.sent.lock().unwrap().push(place);
}

/// A length as Kafka's records have it: zigzag, seven bits a byte, the lowest first.
fn varint(length: usize) -> Vec<u8> {
    let (mut rest, mut bytes) = (length << 1, Vec::new());
    while rest > 0x7f {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Writes a batch by a request made by hand; its offset.
fn write(mock: &Mock, partition: i32, batch: &[u8]) -> i64 {
    let mut request = Vec::new();
    // Produce in its third version, with a number to recognise the answer by, of nobody.
    request.extend([0i16, 3].map(i16::to_be_bytes).as_flattened());
    request.extend(7i32.to_be_bytes());
    request.extend((-1i16).to_be_bytes());
    // No transaction; acknowledged by all; within a second; one topic, one partition.
    request.extend([-1i16, -1].map(i16::to_be_bytes).as_flattened());
    request.extend([1000i32, 1].map(i32::to_be_bytes).as_flattened());
    request.extend(i16::try_from(mock.topic.len()).unwrap().to_be_bytes());
    request.extend(mock.topic.as_bytes());
    request.extend([1, partition, batch.len() as i32].map(i32::to_be_bytes).as_flattened());
    request.extend(batch);

    let first = mock.kafka.brokers.split(',').next().unwrap();
    let mut broker = TcpStream::connect(first).unwrap();
    broker.set_read_timeout(Some(PATIENCE)).unwrap();
    broker.write_all(&(request.len() as i32).to_be_bytes()).unwrap();
    broker.write_all(&request).unwrap();
    let mut length = [0; 4];
    broker.read_exact(&mut length).unwrap();
    let mut answer = vec![0; i32::from_be_bytes(length) as usize];
    broker.read_exact(&mut answer).unwrap();
    // Behind the number and one topic's name: one partition, its number, the error, the offset.
    let rest = &answer[4 + 4 + 2 + mock.topic.len() + 4 + 4..];
    assert_eq!(rest[..2], [0, 0], "the broker refuses it");
    i64::from_be_bytes(rest[2..10].try_into().unwrap())
}

/// One message, as Kafka's message format 2 has it.
fn batch(codec: Codec, records: &[u8]) -> Vec<u8> {
    let mut after_length = Vec::new();
    after_length.extend((-1i32).to_be_bytes()); // the leader's epoch
    after_length.push(2); // the format
    after_length.extend(0i32.to_be_bytes()); // the checksum, which clients do not look at
    after_length.extend((codec as i16).to_be_bytes());
    after_length.extend(0i32.to_be_bytes()); // the last offset, from the first
    after_length.extend([0i64, 0, -1].map(i64::to_be_bytes).as_flattened()); // times and producer
    after_length.extend((-1i16).to_be_bytes());
    after_length.extend([-1i32, 1].map(i32::to_be_bytes).as_flattened()); // sequence, messages
    after_length.extend(records);
    let mut batch = 0i64.to_be_bytes().to_vec();
    batch.extend((after_length.len() as i32).to_be_bytes());
    batch.extend(after_length);
    batch
}

/// The headers of the first messages of a topic with one partition, once there are that many.
pub async fn read(kafka: &KafkaConfig, topic: &str, messages: usize) -> Vec<BTreeMap<String, String>> {
    let (config, topic) = (kafka.client("reader"), topic.to_owned());
    let look = move || {
        let mut config = config;
        config.set("group.id", "reader").set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut all = TopicPartitionList::new();
        all.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&all).unwrap();
        let next = || {
            let message = consumer.poll(PATIENCE).expect("there are not so many").unwrap();
            let headers = message.headers().unwrap().iter();
            let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
            headers.map(|h| (h.key.to_owned(), text(h.value))).collect()
        };
        (0..messages).map(|_| next()).collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap()
}
