//! The few calls that need librdkafka's C interface: commits whose result is really seen, messages by a queue of their own,
//! their headers, and what librdkafka remembers of the group and of a partition's end.
//!
//! With rdkafka's own asynchronous commit the callback is never called, and its synchronous one blocks for the whole
//! session timeout while the coordinator is down.
#![allow(unsafe_code)]

use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, Timestamp};
use rdkafka::types::RDKafkaRespErr;

unsafe extern "C" {
    /// In `headers.c`.
    fn bus_message_headers(message: *const rd::rd_kafka_message_t, length: *mut usize) -> *const c_void;
}

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

/// A message that lies in librdkafka's memory.
#[derive(Clone, Copy)]
pub(crate) struct Message<'m>(&'m rd::rd_kafka_message_t);

impl<'m> Message<'m> {
    /// What rdkafka has borrowed.
    pub fn of(message: &'m BorrowedMessage<'_>) -> Self {
        // SAFETY: rdkafka's message keeps what it points to for as long as it is borrowed.
        Self(unsafe { &*message.ptr() })
    }

    /// What it says instead of a message.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        check(self.0.err).err()
    }

    pub fn partition(&self) -> i32 {
        self.0.partition
    }

    /// Its offset; the end, with [`RDKafkaErrorCode::PartitionEOF`].
    pub fn offset(&self) -> i64 {
        self.0.offset
    }

    pub fn key(&self) -> Option<&'m [u8]> {
        // SAFETY: a key that is not null has so many bytes, and lives as long as the message.
        (!self.0.key.is_null()).then(|| unsafe { std::slice::from_raw_parts(self.0.key.cast(), self.0.key_len) })
    }

    /// Its value, or with an error the reason as text.
    pub fn value(&self) -> Option<&'m [u8]> {
        // SAFETY: as with the key.
        (!self.0.payload.is_null()).then(|| unsafe { std::slice::from_raw_parts(self.0.payload.cast(), self.0.len) })
    }

    pub fn timestamp(&self) -> Timestamp {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message and the kind outlive the call.
        let ms = unsafe { rd::rd_kafka_message_timestamp(self.0, &raw mut kind) };
        match kind {
            _ if ms == -1 => Timestamp::NotAvailable,
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => Timestamp::NotAvailable,
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => Timestamp::CreateTime(ms),
            rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => Timestamp::LogAppendTime(ms),
        }
    }

    /// Its headers as they came from the broker.
    pub fn headers(&self) -> &'m [u8] {
        let mut length = 0;
        // SAFETY: the message outlives the call, and what it answers with lies in the broker's answer, as its value does.
        unsafe {
            let data = bus_message_headers(self.0, &raw mut length);
            if data.is_null() {
                &[]
            } else {
                std::slice::from_raw_parts(data.cast(), length)
            }
        }
    }
}

/// A message that is ours until it is dropped.
pub(crate) struct Taken(NonNull<rd::rd_kafka_message_t>);

impl Taken {
    pub fn message(&self) -> Message<'_> {
        // SAFETY: it is destroyed with `self` and not before.
        Message(unsafe { self.0.as_ref() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // SAFETY: librdkafka has given it to us, and nobody else destroys it.
        unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// A queue of messages alone. To take them from the consumer's own queue costs an event and an allocation for each, because
/// there rdkafka has to see what it is. It is never destroyed, and neither is its consumer: the process ends first.
pub(crate) struct Queue(NonNull<rd::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread, and from several.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// An empty queue; `reader` is unparked whenever it is not empty any more.
    pub fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>, reader: Thread) -> Option<Self> {
        unsafe extern "C" fn unpark(_: *mut rd::rd_kafka_t, reader: *mut c_void) {
            // SAFETY: it is a thread's handle, and is never freed.
            unsafe { &*reader.cast::<Thread>() }.unpark();
        }
        // SAFETY: the client lives, and what the queue calls with lives for ever.
        unsafe {
            let queue = NonNull::new(rd::rd_kafka_queue_new(consumer.client().native_ptr()))?;
            let reader = ptr::from_mut(Box::leak(Box::new(reader)));
            rd::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(unpark), reader.cast());
            Some(Self(queue))
        }
    }

    /// Has a partition's messages come here, and never to the consumer's queue any more. librdkafka forgets where they go when
    /// it stops the partition.
    pub fn divert<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>, topic: &str, partition: i32) {
        let Ok(topic) = CString::new(topic) else { return };
        // SAFETY: the client and the name outlive the calls, and the reference to the partition's queue is given up again.
        unsafe {
            let queue = rd::rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition);
            if !queue.is_null() {
                rd::rd_kafka_queue_forward(queue, self.0.as_ptr());
                rd::rd_kafka_queue_destroy(queue);
            }
        }
    }

    /// The next message; does not wait for one.
    pub fn take(&self) -> Option<Taken> {
        // SAFETY: the queue lives.
        NonNull::new(unsafe { rd::rd_kafka_consume_queue(self.0.as_ptr(), 0) }).map(Taken)
    }

    pub fn is_empty(&self) -> bool {
        // SAFETY: the queue lives.
        unsafe { rd::rd_kafka_queue_length(self.0.as_ptr()) == 0 }
    }
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
