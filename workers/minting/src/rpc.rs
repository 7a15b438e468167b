//! The chain through one endpoint or several: reads come from the first that answers, transactions go to all, and
//! what is final is final only where all agree.

use std::future::Future;
use std::time::Duration;

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::{DynProvider, Provider as _, ProviderBuilder};
use alloy::rpc::types::{BlockNumberOrTag, TransactionRequest};
use alloy::sol_types::SolCall;
use alloy::transports::{RpcError, TransportError};
use anyhow::Context as _;
use futures::future::{join_all, try_join_all};
use runtime::Exit;

use crate::config::{MintConfig, RpcConfig};
use crate::contract::{AssetToken, ContractError, minter_role};
use crate::error::Error;
use crate::fees::Fees;
use crate::refusal::{Refusal, classify};

/// Attempts to reach the chain at the start, a doubling wait apart from 200 ms: some 6 s.
const START_TRIES: u32 = 6;

/// One endpoint, named by its host: the rest of its address may be a secret.
struct Endpoint {
    host: String,
    provider: DynProvider,
}

pub struct Chain {
    endpoints: Vec<Endpoint>,
    timeout: Duration,
    pub chain_id: u64,
    pub contract: Address,
    pub contract_block: u64,
}

/// The newest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub number: u64,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Gas that a block can hold.
    pub gas_limit: u64,
}

/// What a node said to a call.
pub type Answer<T> = Result<T, TransportError>;

impl Chain {
    /// Makes the clients; connections are made when they are needed.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(rpc: &RpcConfig, mint: &MintConfig) -> anyhow::Result<Self> {
        let mut chain = Self::bare(rpc)?;
        chain.contract = Address::from(mint.contract.0);
        chain.contract_block = mint.contract_block;
        Ok(chain)
    }

    /// The chain without a contract on it.
    ///
    /// # Errors
    /// As [`Chain::new`].
    pub fn bare(rpc: &RpcConfig) -> anyhow::Result<Self> {
        let endpoints = rpc.endpoints().into_iter().map(|url| Endpoint {
            host: url.host_str().unwrap_or("?").to_owned(),
            provider: ProviderBuilder::new().disable_recommended_fillers().connect_http(url).erased(),
        });
        Ok(Self {
            endpoints: endpoints.collect(),
            timeout: rpc.timeout,
            chain_id: rpc.chain_id,
            contract: Address::ZERO,
            contract_block: 0,
        })
    }

    /// How many endpoints there are.
    pub fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    async fn ask<T>(&self, endpoint: &Endpoint, what: &'static str, call: impl Future<Output = Answer<T>>) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => Err(self.understand(endpoint, what, e)),
            Err(_) => Err(Error::Rpc {
                what,
                why: format!("{}: no answer within {} ms", endpoint.host, self.timeout.as_millis()),
            }),
        }
    }

    /// An error without the endpoint's address, which may carry a provider's key.
    fn understand(&self, endpoint: &Endpoint, what: &'static str, error: TransportError) -> Error {
        match error {
            RpcError::ErrorResp(payload) => match payload.as_decoded_interface_error::<ContractError>() {
                Some(ContractError::EnforcedPause(_)) => Error::Paused(self.contract),
                Some(ContractError::AccessControlUnauthorizedAccount(e)) => Error::NotMinter(e.account),
                _ => Error::Refused {
                    what,
                    why: format!("{}: {} (code {})", endpoint.host, payload.message, payload.code),
                },
            },
            other => Error::Rpc {
                what,
                why: format!("{}: {}", endpoint.host, kind_of(&other)),
            },
        }
    }

    /// Asks the endpoints in turn until one answers.
    pub async fn read<T, F, Fut>(&self, what: &'static str, call: F) -> Result<T, Error>
    where
        F: Fn(DynProvider) -> Fut,
        Fut: Future<Output = Answer<T>>,
    {
        let mut last = None;
        for endpoint in &self.endpoints {
            match self.ask(endpoint, what, call(endpoint.provider.clone())).await {
                Ok(value) => return Ok(value),
                Err(e) if e.is_transport() => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or(Error::Rpc {
            what,
            why: "there is no endpoint".to_owned(),
        }))
    }

    /// Asks all endpoints; all must answer.
    pub async fn read_all<T, F, Fut>(&self, what: &'static str, call: F) -> Result<Vec<T>, Error>
    where
        F: Fn(DynProvider) -> Fut,
        Fut: Future<Output = Answer<T>>,
    {
        try_join_all(self.endpoints.iter().map(|e| self.ask(e, what, call(e.provider.clone())))).await
    }

    /// Sends a transaction to all endpoints; the friendliest answer counts.
    pub async fn broadcast(&self, raw: &Bytes) -> (Refusal, String) {
        let send = |endpoint: &Endpoint| {
            let provider = endpoint.provider.clone();
            async move {
                let sent = tokio::time::timeout(self.timeout, async { provider.send_raw_transaction(raw).await.map(|_| ()) }).await;
                match sent {
                    Ok(Ok(())) => (Refusal::Known, String::new()),
                    Ok(Err(RpcError::ErrorResp(e))) => (classify(&e.message), e.message.to_string()),
                    Ok(Err(e)) => (Refusal::Unknown, kind_of(&e)),
                    Err(_) => (Refusal::Unknown, "no answer in time".to_owned()),
                }
            }
        };
        let answers = join_all(self.endpoints.iter().map(send)).await;
        let rank = |refusal: Refusal| match refusal {
            Refusal::Known => 0,
            Refusal::NonceTooLow => 1,
            Refusal::Replacement => 2,
            Refusal::TooFarAhead => 3,
            Refusal::Unknown => 4,
            Refusal::FeeTooLow => 5,
            Refusal::Funds => 6,
            Refusal::Never => 7,
        };
        let unknown = (Refusal::Unknown, "there is no endpoint".to_owned());
        answers.into_iter().min_by_key(|(refusal, _)| rank(*refusal)).unwrap_or(unknown)
    }

    pub async fn head(&self) -> Result<Head, Error> {
        let block = self
            .read("the newest block", |p| async move {
                p.get_block_by_number(BlockNumberOrTag::Latest).await
            })
            .await?;
        let block = block.ok_or(Error::Refused {
            what: "the newest block",
            why: "it has none".to_owned(),
        })?;
        Ok(Head {
            number: block.header.number,
            timestamp: block.header.timestamp,
            gas_limit: block.header.gas_limit,
        })
    }

    /// The highest block that every endpoint calls final; 0 while there is none.
    pub async fn finalized(&self) -> Result<u64, Error> {
        let blocks = self
            .read_all("the finalized block", |p| async move {
                p.get_block_by_number(BlockNumberOrTag::Finalized).await
            })
            .await?;
        Ok(blocks.iter().map(|b| b.as_ref().map_or(0, |b| b.header.number)).min().unwrap_or(0))
    }

    /// Transactions that the account has on the chain, the newest block included.
    pub async fn nonce(&self, account: Address) -> Result<u64, Error> {
        self.read("a nonce", |p| async move { p.get_transaction_count(account).latest().await })
            .await
    }

    pub async fn balance(&self, account: Address) -> Result<U256, Error> {
        self.read("a balance", |p| async move { p.get_balance(account).latest().await })
            .await
    }

    pub async fn code(&self, account: Address) -> Result<Bytes, Error> {
        self.read("a contract's code", |p| async move { p.get_code_at(account).latest().await })
            .await
    }

    /// What the market asks now.
    pub async fn market(&self) -> Result<Fees, Error> {
        let estimation = self.read("the fees", |p| async move { p.estimate_eip1559_fees().await }).await?;
        Ok(estimation.into())
    }

    /// Makes a call on the contract without a transaction, at the newest block, and decodes the answer.
    pub async fn view<C: SolCall + Clone>(&self, what: &'static str, from: Option<Address>, call: C) -> Result<C::Return, Error> {
        let mut request = TransactionRequest::default().with_to(self.contract).with_input(call.abi_encode());
        if let Some(from) = from {
            request = request.with_from(from);
        }
        let data = self
            .read(what, |p| {
                let request = request.clone();
                async move { p.call(request).block(BlockNumberOrTag::Latest.into()).await }
            })
            .await?;
        C::abi_decode_returns(&data).map_err(|_| Error::Refused {
            what,
            why: format!("{} does not answer like an asset token: check ASSET_TOKEN_ADDRESS", self.contract),
        })
    }

    pub async fn mint_digest(&self, key: B256) -> Result<B256, Error> {
        self.view("mintDigest", None, AssetToken::mintDigestCall { key }).await
    }

    pub async fn is_minter(&self, account: Address) -> Result<bool, Error> {
        let role = minter_role();
        self.view("hasRole", None, AssetToken::hasRoleCall { role, account }).await
    }

    /// Checks, all at the same time, that this is the chain, that the contract is on it, and that these accounts may
    /// mint.
    ///
    /// # Errors
    /// [`Exit::Config`] with what to do, or [`Exit::Unavailable`] when no endpoint answers.
    pub async fn check(&self, minters: &[Address]) -> anyhow::Result<()> {
        let mut wait = Duration::from_millis(200);
        for attempt in 1.. {
            let facts = tokio::try_join!(
                self.read_all("its chain id", |p| async move { p.get_chain_id().await }),
                self.code(self.contract),
                try_join_all(minters.iter().map(|m| self.role_of(*m))),
            );
            match facts {
                Ok((ids, code, roles)) => return self.judge_setup(&ids, &code, roles),
                Err(e) if e.is_transport() && attempt < START_TRIES => {
                    tracing::warn!(error = %e, attempt, "the chain does not answer yet");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                Err(e) => return Err(Exit::Unavailable.error()).with_context(|| format!("{e:#}; check EVM_RPC_URLS")),
            }
        }
        Ok(())
    }

    /// Whether the account may mint; what a contract that is not ours says to that is kept for the judgement.
    async fn role_of(&self, account: Address) -> Result<(Address, Result<bool, Error>), Error> {
        match self.is_minter(account).await {
            Err(e @ Error::Rpc { .. }) => Err(e),
            answer => Ok((account, answer)),
        }
    }

    fn judge_setup(&self, ids: &[u64], code: &Bytes, roles: Vec<(Address, Result<bool, Error>)>) -> anyhow::Result<()> {
        let wrong = |text: String| Err(Exit::Config.error()).context(text);
        if let Some(other) = ids.iter().find(|id| **id != self.chain_id) {
            return wrong(format!(
                "EVM_RPC_URLS leads to chain {other}, but EVM_CHAIN_ID is {}",
                self.chain_id
            ));
        }
        if code.is_empty() {
            return wrong(format!(
                "there is no contract at ASSET_TOKEN_ADDRESS={} on chain {}: deploy it with `minting deploy`",
                self.contract, self.chain_id
            ));
        }
        for (minter, role) in roles {
            match role {
                Ok(true) => {}
                Ok(false) => return wrong(format!("{}", Error::NotMinter(minter))),
                Err(e) => return wrong(format!("{e:#}")),
            }
        }
        Ok(())
    }
}

/// What kind of transport error it is, without the address that its text would quote.
fn kind_of(error: &TransportError) -> String {
    match error {
        RpcError::Transport(e) => match e.as_http_error() {
            Some(http) => format!("HTTP status {}", http.status),
            None => "the connection failed".to_owned(),
        },
        RpcError::DeserError { .. } => "the answer is not what was asked for".to_owned(),
        RpcError::NullResp => "the answer is empty".to_owned(),
        RpcError::ErrorResp(e) => e.message.to_string(),
        RpcError::UnsupportedFeature(_) | RpcError::LocalUsageError(_) | RpcError::SerError(_) => {
            "the question could not be put".to_owned()
        }
    }
}
