//! The few calls that need librdkafka's C interface: commits whose result is really seen, whether there is something to
//! poll for, a message's headers, and what librdkafka remembers of a partition's end.
//!
//! With rdkafka's own asynchronous commit the callback is never called, and its synchronous one blocks for the whole
//! session timeout while the coordinator is down.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;

fn check(err: RDKafkaRespErr) -> Result<(), RDKafkaErrorCode> {
    if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        Ok(())
    } else {
        Err(err.into())
    }
}

/// Whether the consumer's queue has something to be polled. rdkafka's `poll` answers alike when there was nothing and
/// when a callback has had its turn, behind which more may be waiting.
pub(crate) fn has_more<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    // SAFETY: the client outlives the calls, and the reference to its queue is given up again.
    unsafe {
        let queue = rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
        let length = rd::rd_kafka_queue_length(queue);
        rd::rd_kafka_queue_destroy(queue);
        length > 0
    }
}

/// A message's headers in their order, names as they are, or `false` when it has none. rdkafka takes a name for text, which
/// nobody has to keep to, and panics when it is not.
pub(crate) fn headers<'m>(message: &'m BorrowedMessage<'_>, mut each: impl FnMut(&'m [u8], Option<&'m [u8]>)) -> bool {
    let mut headers = ptr::null_mut();
    // SAFETY: the message outlives the call, and owns what it answers with.
    let err = unsafe { rd::rd_kafka_message_headers(message.ptr(), &raw mut headers) };
    if check(err).is_err() {
        return false;
    }
    for n in 0.. {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers live as long as the message does; librdkafka ends a name with a zero byte, and a value that is
        // not null has `length` bytes.
        unsafe {
            let err = rd::rd_kafka_header_get_all(headers, n, &raw mut name, &raw mut value, &raw mut length);
            if check(err).is_err() {
                break;
            }
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast(), length));
            each(CStr::from_ptr(name).to_bytes(), value);
        }
    }
    true
}

/// The member's generation or epoch in its group; `None` as long as the group has not answered it.
pub(crate) fn generation<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<i32> {
    // SAFETY: the client outlives the calls, and the metadata is ours to destroy.
    unsafe {
        let metadata = rd::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return None;
        }
        let generation = rd::rd_kafka_consumer_group_metadata_generation_id(metadata);
        rd::rd_kafka_consumer_group_metadata_destroy(metadata);
        Some(generation).filter(|g| *g > 0)
    }
}

/// Where a partition ended at the last answer to a fetch; asks nobody. `None` before the first answer.
pub(crate) fn high_watermark<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partition: i32) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (0, 0);
    // SAFETY: the client, the name and the two numbers outlive the call.
    let err = unsafe {
        rd::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    check(err).ok().map(|()| high).filter(|high| *high >= 0)
}

/// Sends a commit; its result comes back through the consumer's `commit_callback`.
pub(crate) fn commit<C: ConsumerContext>(consumer: &BaseConsumer<C>, offsets: &TopicPartitionList) -> Result<(), RDKafkaErrorCode> {
    let rk = consumer.client().native_ptr();
    // SAFETY: `rk` and `offsets` outlive the calls; librdkafka copies the list and keeps its own reference to the
    // queue, so that ours can be given up at once. No callback is passed, hence no opaque pointer either.
    unsafe {
        let queue = rd::rd_kafka_queue_get_consumer(rk);
        let err = rd::rd_kafka_commit_queue(rk, offsets.ptr(), queue, None, ptr::null_mut());
        rd::rd_kafka_queue_destroy(queue);
        check(err)
    }
}

/// Sends a commit and waits for its result, at most `timeout`. For the rebalance callback, which must know before it
/// gives the partitions up.
pub(crate) fn commit_and_wait<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), RDKafkaErrorCode> {
    let rk = consumer.client().native_ptr();
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: as above; the queue is ours alone, and the event is destroyed before it.
    unsafe {
        let queue = rd::rd_kafka_queue_new(rk);
        let mut result = check(rd::rd_kafka_commit_queue(rk, offsets.ptr(), queue, None, ptr::null_mut()));
        if result.is_ok() {
            let event = rd::rd_kafka_queue_poll(queue, millis);
            result = if event.is_null() {
                Err(RDKafkaErrorCode::OperationTimedOut)
            } else {
                check(rd::rd_kafka_event_error(event))
            };
            if !event.is_null() {
                rd::rd_kafka_event_destroy(event);
            }
        }
        rd::rd_kafka_queue_destroy(queue);
        result
    }
}
