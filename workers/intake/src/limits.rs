//! How often a tenant may ask: a token bucket in Redis, shared by all processes; without Redis, one in this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use messages::Tenant;
use messages::tenants::TenantLimits;
use redis::Script;
use stores::Cache;

use crate::error::{Kind, Problem};

/// Takes one token; answers how many milliseconds until there is one, 0 when it was taken. The bucket holds tokens (in
/// thousandths) and the time of the last look, by Redis's clock; it is gone once it would be full again anyway.
const BUCKET: &str = r"
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local b = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(burst, (tonumber(b[1]) or burst) + math.max(0, now - (tonumber(b[2]) or now)) * rate)
local wait = 0
if tokens >= 1000 then tokens = tokens - 1000 else wait = math.ceil((1000 - tokens) / rate) end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate) + 1000)
return wait
";

/// The tenants' buckets.
pub struct RateLimits {
    cache: Cache,
    script: Script,
    /// At most one a tenant of the file.
    local: Mutex<HashMap<Tenant, Bucket>>,
}

impl RateLimits {
    pub fn new(cache: Cache) -> Self {
        Self {
            cache,
            script: Script::new(BUCKET),
            local: Mutex::default(),
        }
    }

    /// Counts one request of a tenant.
    ///
    /// # Errors
    /// 429 with the time to wait, when there were too many.
    pub async fn count(&self, tenant: &Tenant, limits: TenantLimits) -> Result<(), Problem> {
        let key = format!("rate:{tenant}");
        let mut call = self.script.key(key);
        call.arg(limits.requests_per_second).arg(limits.burst);
        let shared = self.cache.call(|mut c| async move { call.invoke_async::<u64>(&mut c).await }).await;
        let wait_ms = shared.unwrap_or_else(|| self.count_here(tenant, limits));
        if wait_ms == 0 {
            return Ok(());
        }
        let seconds = u32::try_from(wait_ms.div_ceil(1000)).unwrap_or(u32::MAX);
        let detail = format!(
            "{tenant} may ask {} times a second, {} at once; wait and repeat the request.",
            limits.requests_per_second, limits.burst
        );
        Err(Problem::new(Kind::RateLimited, detail).retry_after(seconds))
    }

    fn count_here(&self, tenant: &Tenant, limits: TenantLimits) -> u64 {
        let mut buckets = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let bucket = buckets.entry(tenant.clone()).or_insert_with(|| Bucket::full(limits, now));
        bucket.take(limits, now)
    }
}

/// The same bucket as in Redis.
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(limits: TenantLimits, now: Instant) -> Self {
        Self {
            tokens: f64::from(limits.burst),
            at: now,
        }
    }

    /// Milliseconds until there is a token, 0 when one was taken.
    fn take(&mut self, limits: TenantLimits, now: Instant) -> u64 {
        let rate = f64::from(limits.requests_per_second);
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.tokens = (self.tokens + gained).min(f64::from(limits.burst));
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return 0;
        }
        // At most 1000 ms, since the rate is 1 or more.
        ((1.0 - self.tokens) / rate * 1000.0).ceil().max(1.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let limits = TenantLimits {
            requests_per_second: 2,
            burst: 3,
        };
        let start = Instant::now();
        let mut bucket = Bucket::full(limits, start);
        assert_eq!([0; 3].map(|_| bucket.take(limits, start)), [0; 3]);
        assert_eq!(bucket.take(limits, start), 500);
        assert_eq!(bucket.take(limits, start + Duration::from_millis(500)), 0);
        assert!(bucket.take(limits, start + Duration::from_millis(600)) > 0);
        let later = start + Duration::from_secs(3600);
        assert_eq!([0; 3].map(|_| bucket.take(limits, later)), [0; 3]);
        assert!(bucket.take(limits, later) > 0, "no more than the burst is saved up");
    }
}
