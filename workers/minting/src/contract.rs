//! The asset token as the worker sees it: what it calls, what it reads, and the artefact that it deploys.

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol;
use alloy::sol_types::{SolError, SolInterface};
use anyhow::Context as _;

use crate::records::MintItem;

sol! {
    /// The part of `contracts/src/AssetToken.sol` that the worker uses; a test compares it with the artefact.
    #[derive(Debug)]
    interface AssetToken {
        struct Item { bytes32 key; address to; uint256 amount; bytes32 evidence; }

        event AssetMinted(bytes32 indexed key, address indexed to, uint256 amount, bytes32 evidence);
        event MintSkipped(bytes32 indexed key, uint8 outcome, bytes reason);

        error ZeroKey();
        error ZeroRecipient();
        error ZeroAmount();
        error ZeroEvidence();
        error InsufficientGas(uint256 index);
        error EnforcedPause();
        error AccessControlUnauthorizedAccount(address account, bytes32 neededRole);
        error ERC7943CannotReceive(address account);
        error ERC1155InvalidReceiver(address receiver);

        function mintBatch(Item[] items) external returns (uint8[] outcomes);
        function mintDigest(bytes32 key) external view returns (bytes32 digest);
        function balanceOf(address account, uint256 id) external view returns (uint256);
        function hasRole(bytes32 role, address account) external view returns (bool);
        function paused() external view returns (bool);
        function uri(uint256 id) external view returns (string);
        constructor(address admin, address[] minters, string uriTemplate);
    }
}

pub use AssetToken::AssetTokenErrors as ContractError;

const ARTIFACT: &str = include_str!("../contracts/artifacts/AssetToken.json");

/// keccak256("MINTER_ROLE")
pub fn minter_role() -> B256 {
    alloy::primitives::keccak256("MINTER_ROLE")
}

/// What the contract says became of an item; the numbers are those of its enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Minted,
    AlreadyMinted,
    KeyConflict,
    Failed,
}

impl Outcome {
    /// The outcome of a number; the contract never says 0 (`None`), and a number beyond these is another contract's.
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Minted),
            2 => Some(Self::AlreadyMinted),
            3 => Some(Self::KeyConflict),
            4 => Some(Self::Failed),
            _ => None,
        }
    }
}

/// The call that mints these items.
///
/// # Errors
/// When an item's key is no key.
pub fn mint_call(items: &[&MintItem]) -> anyhow::Result<AssetToken::mintBatchCall> {
    let items = items.iter().map(|item| encode(item)).collect::<anyhow::Result<_>>()?;
    Ok(AssetToken::mintBatchCall { items })
}

fn encode(item: &MintItem) -> anyhow::Result<AssetToken::Item> {
    Ok(AssetToken::Item {
        key: item.key.parse().context("the key of a mint item")?,
        to: Address::from(item.recipient.0),
        amount: U256::from(item.units),
        evidence: B256::from(item.evidence.0),
    })
}

/// Why the contract skipped an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// The request is wrong: a short code for programs, a sentence for people.
    Wrong { code: &'static str, text: String },
    /// Anything else: a receiver with reasons of its own, or one that spends all its gas.
    Other(String),
}

/// Reads the reason of a failed item. It is cut at 256 bytes and may be a receiver's own, so nothing is expected of it.
pub fn skip_of(reason: &[u8]) -> Skip {
    let wrong = |code, text: String| Skip::Wrong { code, text };
    match ContractError::abi_decode(reason) {
        Ok(ContractError::ERC7943CannotReceive(e)) => wrong("recipient-denied", format!("{} may not receive this token", e.account)),
        Ok(ContractError::ERC1155InvalidReceiver(e)) => wrong(
            "recipient-cannot-hold",
            format!("{} is a contract that does not accept ERC-1155 tokens", e.receiver),
        ),
        Ok(ContractError::ZeroKey(_)) => wrong("zero-key", "the token id is zero".to_owned()),
        Ok(ContractError::ZeroRecipient(_)) => wrong("zero-recipient", "the recipient is the zero address".to_owned()),
        Ok(ContractError::ZeroAmount(_)) => wrong("zero-units", "the number of units is zero".to_owned()),
        Ok(ContractError::ZeroEvidence(_)) => wrong("zero-evidence", "the hash of the valuation report is zero".to_owned()),
        Ok(
            other @ (ContractError::InsufficientGas(_)
            | ContractError::EnforcedPause(_)
            | ContractError::AccessControlUnauthorizedAccount(_)),
        ) => Skip::Other(format!("{other:?}")),
        Err(_) if reason.is_empty() => Skip::Other("the receiver spent all its gas, or failed without a reason".to_owned()),
        Err(_) => Skip::Other(foreign_reason(reason)),
    }
}

/// A reason that is not the contract's: a plain `revert("text")` as its text, anything else in hexadecimal.
fn foreign_reason(reason: &[u8]) -> String {
    match alloy::sol_types::Revert::abi_decode(reason) {
        Ok(revert) => format!("the receiver refused: {}", revert.reason),
        Err(_) => format!("the receiver refused with 0x{}", hex::encode(reason)),
    }
}

/// The code that deploys the token.
///
/// # Errors
/// When the embedded artefact has no bytecode.
pub fn creation_code(admin: Address, minters: Vec<Address>, uri_template: &str) -> anyhow::Result<Bytes> {
    let mut code = artifact_code("bytecode")?;
    let call = AssetToken::constructorCall {
        admin,
        minters,
        uriTemplate: uri_template.to_owned(),
    };
    code.extend(alloy::sol_types::SolConstructor::abi_encode(&call));
    Ok(code.into())
}

/// The code that a deployed token has; it holds no immutable values, so every deployment has the same.
///
/// # Errors
/// When the embedded artefact has no bytecode.
pub fn deployed_code() -> anyhow::Result<Bytes> {
    Ok(artifact_code("deployedBytecode")?.into())
}

fn artifact_code(field: &str) -> anyhow::Result<Vec<u8>> {
    let artifact: serde_json::Value = serde_json::from_str(ARTIFACT)?;
    let text = artifact
        .get(field)
        .and_then(|v| v.as_str())
        .context("the artefact lacks its code")?;
    Ok(hex::decode(text.trim_start_matches("0x"))?)
}

#[cfg(test)]
mod tests {
    use alloy::json_abi::JsonAbi;
    use alloy::sol_types::SolEvent;

    use super::*;

    #[test]
    fn what_we_call_and_read_is_what_the_artefact_has() {
        let artifact: serde_json::Value = serde_json::from_str(ARTIFACT).unwrap();
        let abi: JsonAbi = serde_json::from_value(artifact["abi"].clone()).unwrap();
        let functions: Vec<_> = abi.functions().map(|f| f.selector()).collect();
        for selector in AssetToken::AssetTokenCalls::selectors() {
            assert!(functions.iter().any(|f| f.as_slice() == selector), "function {selector:02x?}");
        }
        let errors: Vec<_> = abi.errors().map(|e| e.selector()).collect();
        for selector in ContractError::selectors() {
            assert!(errors.iter().any(|e| e.as_slice() == selector), "error {selector:02x?}");
        }
        let events: Vec<_> = abi.events().map(|e| e.selector()).collect();
        assert!(events.contains(&AssetToken::AssetMinted::SIGNATURE_HASH));
        assert!(events.contains(&AssetToken::MintSkipped::SIGNATURE_HASH));
    }

    #[test]
    fn the_contracts_own_errors_mean_a_wrong_request_and_no_others_do() {
        let account = Address::repeat_byte(7);
        let denied = AssetToken::ERC7943CannotReceive { account }.abi_encode();
        assert!(matches!(
            skip_of(&denied),
            Skip::Wrong {
                code: "recipient-denied",
                ..
            }
        ));
        let receiver = AssetToken::ERC1155InvalidReceiver { receiver: account }.abi_encode();
        assert!(matches!(
            skip_of(&receiver),
            Skip::Wrong {
                code: "recipient-cannot-hold",
                ..
            }
        ));
        for (error, code) in [
            (AssetToken::ZeroKey {}.abi_encode(), "zero-key"),
            (AssetToken::ZeroRecipient {}.abi_encode(), "zero-recipient"),
            (AssetToken::ZeroAmount {}.abi_encode(), "zero-units"),
            (AssetToken::ZeroEvidence {}.abi_encode(), "zero-evidence"),
        ] {
            assert!(matches!(skip_of(&error), Skip::Wrong { code: c, .. } if c == code));
        }
        let text = alloy::sol_types::Revert::from("not today").abi_encode();
        assert_eq!(skip_of(&text), Skip::Other("the receiver refused: not today".to_owned()));
        for odd in [&[][..], &[1, 2], &[0xff; 256], &text[..40], &denied[..20]] {
            assert!(matches!(skip_of(odd), Skip::Other(_)), "{odd:?}");
        }
    }
}
