/* Where a consumed message's headers lie, as they came from the broker.
 *
 * The public interface unpacks them into a list, which takes two dozen allocations for ten headers and more time than
 * all else that is done with a message. This is compiled against the sources that are linked: when the names change,
 * the build fails. */
#include "rdkafka_int.h"
#include "rdkafka_msg.h"

const void *bus_message_headers(const rd_kafka_message_t *message, size_t *length) {
        const rd_kafka_msg_t *msg = rd_kafka_message2msg((rd_kafka_message_t *)message);

        if (msg->rkm_flags & RD_KAFKA_MSG_F_PRODUCER) {
                *length = 0;
                return NULL;
        }
        *length = RD_KAFKAP_BYTES_LEN(&msg->rkm_u.consumer.binhdrs);
        return msg->rkm_u.consumer.binhdrs.data;
}
