//! Who signs: partition n of the topic has the n-th account.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes};
use alloy::signers::SignerSync;
use alloy::signers::local::{MnemonicBuilder, PrivateKeySigner};
use anyhow::Context as _;

use crate::config::KeysConfig;
use crate::error::Error;

/// The accounts that hold MINTER_ROLE, one a partition.
pub enum Signers {
    /// Keys of a mnemonic phrase in a file (BIP-39, m/44'/60'/0'/0/n), for development.
    Local(Vec<PrivateKeySigner>),
}

/// A transaction that any node accepts as it is; its hash is known before anybody has seen it.
pub struct SignedTx {
    pub hash: B256,
    pub raw: Bytes,
}

impl Signers {
    /// Derives the accounts 0 to `config.signers` - 1.
    ///
    /// # Errors
    /// When the file cannot be read or is not a mnemonic phrase; neither is quoted.
    pub async fn load(config: &KeysConfig) -> anyhow::Result<Self> {
        let phrase = read_phrase(config).await?;
        let count = config.signers;
        // 2048 rounds of HMAC-SHA-512: not on a thread that others wait for.
        let keys = tokio::task::spawn_blocking(move || derive(&phrase, 0..count)).await??;
        Ok(Self::Local(keys))
    }

    /// The address of a partition's account.
    pub fn address(&self, partition: u32) -> Option<Address> {
        match self {
            Self::Local(keys) => keys.get(partition as usize).map(PrivateKeySigner::address),
        }
    }

    /// All addresses, in the order of the partitions.
    pub fn addresses(&self) -> Vec<Address> {
        match self {
            Self::Local(keys) => keys.iter().map(PrivateKeySigner::address).collect(),
        }
    }

    /// Signs with a partition's account.
    ///
    /// # Errors
    /// [`Error::NoSigner`] when there are fewer accounts than partitions.
    pub async fn sign(&self, partition: u32, tx: TxEip1559) -> Result<SignedTx, Error> {
        match self {
            Self::Local(keys) => {
                let key = keys.get(partition as usize).ok_or(Error::NoSigner(partition))?;
                sign_with(key, tx)
            }
        }
    }
}

/// One account of the mnemonic, for the commands of people.
///
/// # Errors
/// As [`Signers::load`].
pub async fn account(config: &KeysConfig, index: u32) -> anyhow::Result<PrivateKeySigner> {
    let phrase = read_phrase(config).await?;
    let mut keys = tokio::task::spawn_blocking(move || derive(&phrase, index..index + 1)).await??;
    keys.pop().context("one index gives one key")
}

/// Signs a transaction.
///
/// # Errors
/// When the key cannot sign.
pub fn sign_with(key: &PrivateKeySigner, tx: TxEip1559) -> Result<SignedTx, Error> {
    let signature = key
        .sign_hash_sync(&tx.signature_hash())
        .map_err(|e| Error::Fault(anyhow::Error::new(e).context("signing")))?;
    let envelope: TxEnvelope = tx.into_signed(signature).into();
    Ok(SignedTx {
        hash: *envelope.tx_hash(),
        raw: envelope.encoded_2718().into(),
    })
}

async fn read_phrase(config: &KeysConfig) -> anyhow::Result<String> {
    let path = &config.mnemonic_file;
    let text = tokio::fs::read_to_string(path)
        .await
        .with_context(|| format!("EVM_MNEMONIC_FILE={} cannot be read", path.display()));
    Ok(text
        .map_err(|e| runtime::Exit::Config.error().context(format!("{e:#}")))?
        .trim()
        .to_owned())
}

fn derive(phrase: &str, indices: std::ops::Range<u32>) -> anyhow::Result<Vec<PrivateKeySigner>> {
    let malformed = || {
        runtime::Exit::Config
            .error()
            .context("EVM_MNEMONIC_FILE does not hold a BIP-39 mnemonic phrase of English words")
    };
    let parent = MnemonicBuilder::from_phrase(phrase).build_parent_key().map_err(|_| malformed())?;
    indices
        .map(|index| parent.child(index).map(|key| key.signer()).map_err(|_| malformed()))
        .collect()
}
