//! What every route asks before anything else: who, whether they may, and how often.

use std::sync::Arc;

use axum::http::HeaderMap;
use messages::Tenant;
use messages::tenants::{TenantSettings, Tenants};
use stores::Cache;

use crate::auth::{Auth, Scope};
use crate::config::Config;
use crate::error::{Kind, Problem};
use crate::limits::RateLimits;

/// Characters of a token's `sub`; it is kept with the document.
const MAX_SUBJECT: usize = 255;

/// Shared by all routes.
pub struct Gate {
    auth: Auth,
    tenants: Arc<Tenants>,
    rates: RateLimits,
}

/// Who has been let in.
pub struct Visitor {
    pub tenant: Tenant,
    pub settings: TenantSettings,
    /// The `sub` of the token.
    pub subject: String,
}

impl Gate {
    /// # Errors
    /// When the HTTP client for the issuer cannot be built.
    pub fn new(config: &Config, cache: &Cache) -> anyhow::Result<Self> {
        Ok(Self {
            auth: Auth::new(&config.oidc)?,
            tenants: config.tenants.clone(),
            rates: RateLimits::new(cache.clone()),
        })
    }

    /// Lets a request in by its token, scope and tenant.
    ///
    /// # Errors
    /// 401, 403, or 503 when the issuer's keys cannot be had.
    pub async fn admit(&self, headers: &HeaderMap, scope: Scope) -> Result<Visitor, Problem> {
        let claims = self.auth.check(headers).await?;
        claims.require(scope)?;
        let tenant = claims.tenant.as_deref().and_then(|t| t.parse::<Tenant>().ok());
        let known = tenant.and_then(|t| self.tenants.get(&t).cloned().map(|s| (t, s)));
        let Some((tenant, settings)) = known else {
            return Err(Problem::new(
                Kind::ForbiddenTenant,
                "The token's claim `tenant` must name a tenant that is set up here; ask us to set it up.",
            ));
        };
        if claims.sub.chars().count() > MAX_SUBJECT {
            let detail = format!("The token's claim `sub` has more than {MAX_SUBJECT} characters; the issuer must shorten it.");
            return Err(Problem::new(Kind::Unauthenticated, detail));
        }
        Ok(Visitor {
            tenant,
            settings,
            subject: claims.sub,
        })
    }

    /// Counts the request against the tenant's rate.
    ///
    /// # Errors
    /// 429.
    pub async fn pace(&self, visitor: &Visitor) -> Result<(), Problem> {
        self.rates.count(&visitor.tenant, visitor.settings.limits).await
    }
}
