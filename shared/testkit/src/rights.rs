//! Users of a broker and what they may do, given and taken while it runs.
//!
//! librdkafka's admin interface has both, rdkafka's has neither.

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::{Duration, Instant};

use bus::{KafkaConfig, ScramMechanism};
use rdkafka::admin::AdminClient;
use rdkafka::bindings as rd;
use rdkafka::client::DefaultClientContext;

/// How long the broker may take to answer, and then to do what it has promised.
const DEADLINE: Duration = Duration::from_secs(20);
/// The least that brokers take; a test's password need not be costly to guess.
const ITERATIONS: i32 = 4096;

/// What a right is about; topics and groups by their whole names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    Topic(String),
    Group(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Describe,
}

/// One entry of the broker's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    pub operation: Operation,
    pub on: On,
    /// Else the entry forbids it, whatever others allow.
    pub allowed: bool,
}

impl Right {
    pub fn to(operation: Operation, on: On) -> Self {
        Self {
            operation,
            on,
            allowed: true,
        }
    }

    pub fn not_to(operation: Operation, on: On) -> Self {
        Self {
            operation,
            on,
            allowed: false,
        }
    }

    /// The entry as librdkafka has it, and as it looks for it.
    fn entry(&self, user: &str, make: NewEntry) -> *mut rd::rd_kafka_AclBinding_t {
        use rd::{rd_kafka_AclOperation_t as Op, rd_kafka_AclPermissionType_t as Permission, rd_kafka_ResourceType_t as Kind};
        let (kind, name) = match &self.on {
            On::Topic(name) => (Kind::RD_KAFKA_RESOURCE_TOPIC, name),
            On::Group(name) => (Kind::RD_KAFKA_RESOURCE_GROUP, name),
        };
        let operation = match self.operation {
            Operation::Read => Op::RD_KAFKA_ACL_OPERATION_READ,
            Operation::Write => Op::RD_KAFKA_ACL_OPERATION_WRITE,
            Operation::Describe => Op::RD_KAFKA_ACL_OPERATION_DESCRIBE,
        };
        let permission = if self.allowed {
            Permission::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW
        } else {
            Permission::RD_KAFKA_ACL_PERMISSION_TYPE_DENY
        };
        let (name, user, host) = (text(name), text(&format!("User:{user}")), text("*"));
        let mut said: [c_char; 256] = [0; 256];
        // SAFETY: the names and the room for an error outlive the call, which copies them.
        #[allow(unsafe_code)]
        let entry = unsafe {
            make(
                kind,
                name.as_ptr(),
                rd::rd_kafka_ResourcePatternType_t::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
                user.as_ptr(),
                host.as_ptr(),
                operation,
                permission,
                said.as_mut_ptr(),
                said.len(),
            )
        };
        assert!(!entry.is_null(), "librdkafka takes no such entry: {self:?}");
        entry
    }
}

type NewEntry = unsafe extern "C" fn(
    rd::rd_kafka_ResourceType_t,
    *const c_char,
    rd::rd_kafka_ResourcePatternType_t,
    *const c_char,
    *const c_char,
    rd::rd_kafka_AclOperation_t,
    rd::rd_kafka_AclPermissionType_t,
    *mut c_char,
    usize,
) -> *mut rd::rd_kafka_AclBinding_t;

/// Somebody who may give and take rights. Its calls block until the broker does as it was told.
pub struct Rights(AdminClient<DefaultClientContext>);

impl Rights {
    /// # Panics
    /// When librdkafka refuses the configuration.
    #[allow(clippy::expect_used)]
    pub fn of(kafka: &KafkaConfig) -> Self {
        Self(kafka.client("testkit").create().expect("the stack's KAFKA_ settings are right"))
    }

    /// Makes a user, who may nothing yet. In force by the time that a right which is given afterwards is.
    ///
    /// # Panics
    /// When the broker refuses.
    pub fn add_user(&self, user: &str, password: &str, mechanism: ScramMechanism) {
        use rd::rd_kafka_ScramMechanism_t as Mechanism;
        let mechanism = match mechanism {
            ScramMechanism::Sha256 => Mechanism::RD_KAFKA_SCRAM_MECHANISM_SHA_256,
            ScramMechanism::Sha512 => Mechanism::RD_KAFKA_SCRAM_MECHANISM_SHA_512,
        };
        let user = text(user);
        // SAFETY: the name and the password outlive the call, which copies them; librdkafka draws the salt. The
        // alteration lives until the answer is there, which lives until its last use.
        #[allow(unsafe_code)]
        unsafe {
            let mut alteration = rd::rd_kafka_UserScramCredentialUpsertion_new(
                user.as_ptr(),
                mechanism,
                ITERATIONS,
                password.as_ptr(),
                password.len(),
                ptr::null(),
                0,
            );
            let answer = self.ask(|rk, queue| rd::rd_kafka_AlterUserScramCredentials(rk, &raw mut alteration, 1, ptr::null(), queue));
            rd::rd_kafka_UserScramCredentialAlteration_destroy(alteration);
            let mut count = 0;
            let result = rd::rd_kafka_event_AlterUserScramCredentials_result(answer.0);
            let responses = rd::rd_kafka_AlterUserScramCredentials_result_responses(result, &raw mut count);
            assert_eq!(count, 1);
            refused(rd::rd_kafka_AlterUserScramCredentials_result_response_error(*responses));
        }
    }

    /// Puts an entry on the list; it is in force afterwards.
    ///
    /// # Panics
    /// When the broker refuses, or takes too long.
    pub fn give(&self, user: &str, right: &Right) {
        // SAFETY: the entry lives until the answer is there, which lives until its last use.
        #[allow(unsafe_code)]
        unsafe {
            let mut entry = right.entry(user, rd::rd_kafka_AclBinding_new);
            let answer = self.ask(|rk, queue| rd::rd_kafka_CreateAcls(rk, &raw mut entry, 1, ptr::null(), queue));
            rd::rd_kafka_AclBinding_destroy(entry);
            let mut count = 0;
            let results = rd::rd_kafka_CreateAcls_result_acls(rd::rd_kafka_event_CreateAcls_result(answer.0), &raw mut count);
            assert_eq!(count, 1);
            refused(rd::rd_kafka_acl_result_error(*results));
        }
        self.until_listed(user, right, true);
    }

    /// Takes an entry off the list; it is in force no more afterwards.
    ///
    /// # Panics
    /// When the broker refuses, takes too long, or there is no such entry.
    pub fn take(&self, user: &str, right: &Right) {
        assert!(self.is_listed(user, right), "{user} has no such entry: {right:?}");
        // SAFETY: as in `give`.
        #[allow(unsafe_code)]
        unsafe {
            let mut filter = right.entry(user, rd::rd_kafka_AclBindingFilter_new);
            let answer = self.ask(|rk, queue| rd::rd_kafka_DeleteAcls(rk, &raw mut filter, 1, ptr::null(), queue));
            rd::rd_kafka_AclBinding_destroy(filter);
            let mut count = 0;
            let responses = rd::rd_kafka_DeleteAcls_result_responses(rd::rd_kafka_event_DeleteAcls_result(answer.0), &raw mut count);
            assert_eq!(count, 1);
            refused(rd::rd_kafka_DeleteAcls_result_response_error(*responses));
        }
        self.until_listed(user, right, false);
    }

    /// The controller has decided when it answers; the broker hears of it a moment later.
    fn until_listed(&self, user: &str, right: &Right, listed: bool) {
        let deadline = Instant::now() + DEADLINE;
        while self.is_listed(user, right) != listed {
            assert!(Instant::now() < deadline, "{right:?} of {user} does not come into force");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the broker itself goes by this entry.
    fn is_listed(&self, user: &str, right: &Right) -> bool {
        // SAFETY: as in `give`.
        #[allow(unsafe_code)]
        unsafe {
            let filter = right.entry(user, rd::rd_kafka_AclBindingFilter_new);
            let answer = self.ask(|rk, queue| rd::rd_kafka_DescribeAcls(rk, filter, ptr::null(), queue));
            rd::rd_kafka_AclBinding_destroy(filter);
            let mut count = 0;
            rd::rd_kafka_DescribeAcls_result_acls(rd::rd_kafka_event_DescribeAcls_result(answer.0), &raw mut count);
            count > 0
        }
    }

    /// Asks the broker for something and waits for its answer.
    fn ask(&self, call: impl FnOnce(*mut rd::rd_kafka_t, *mut rd::rd_kafka_queue_t)) -> Answer {
        let rk = self.0.inner().native_ptr();
        let millis = i32::try_from(DEADLINE.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client outlives the call; the queue is ours, and not needed once it has given its one event.
        #[allow(unsafe_code)]
        let answer = unsafe {
            let queue = rd::rd_kafka_queue_new(rk);
            call(rk, queue);
            let event = rd::rd_kafka_queue_poll(queue, millis);
            rd::rd_kafka_queue_destroy(queue);
            Answer(event)
        };
        assert!(!answer.0.is_null(), "the broker does not answer");
        // SAFETY: the event is there, and librdkafka's texts last for ever.
        #[allow(unsafe_code)]
        unsafe {
            let code = rd::rd_kafka_event_error(answer.0);
            let said = CStr::from_ptr(rd::rd_kafka_err2str(code)).to_string_lossy();
            assert_eq!(
                code,
                rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
                "the broker refuses: {said}"
            );
        }
        answer
    }
}

/// An event of librdkafka's.
struct Answer(*mut rd::rd_kafka_event_t);

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it is ours, and nobody uses it after its value.
            #[allow(unsafe_code)]
            unsafe {
                rd::rd_kafka_event_destroy(self.0);
            }
        }
    }
}

/// # Safety
/// The error, where there is one, belongs to an answer that is still there.
#[allow(unsafe_code)]
unsafe fn refused(error: *const rd::rd_kafka_error_t) {
    // SAFETY: what the caller promises.
    unsafe {
        if rd::rd_kafka_error_code(error) != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            panic!(
                "the broker refuses: {}",
                CStr::from_ptr(rd::rd_kafka_error_string(error)).to_string_lossy()
            );
        }
    }
}

#[allow(clippy::expect_used)]
fn text(text: &str) -> CString {
    CString::new(text).expect("names have no zero in them")
}
