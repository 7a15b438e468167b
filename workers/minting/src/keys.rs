//! What identifies a mint: a key that follows from the asset's name, and a digest of what is issued under it.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::SolValue;
use messages::{AssetId, Hash32, Tenant};

/// The first word of every key; another word would be another set of keys.
const DOMAIN: &str = "libertum.mint.v1";

/// The key of an asset, which is its token id: `keccak256(abi.encode("libertum.mint.v1", tenant, asset_id))`.
pub fn mint_key(tenant: &Tenant, asset_id: &AssetId) -> B256 {
    keccak256((DOMAIN, tenant.as_str(), asset_id.as_str()).abi_encode_params())
}

/// What the contract keeps under a key: `keccak256(abi.encode(key, to, amount, evidence))`, four words.
pub fn mint_digest(key: B256, to: messages::Address, amount: u64, evidence: Hash32) -> B256 {
    digest(key, Address::from(to.0), U256::from(amount), B256::from(evidence.0))
}

pub(crate) fn digest(key: B256, to: Address, amount: U256, evidence: B256) -> B256 {
    keccak256((key, to, amount, evidence).abi_encode_params())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_digests_are_those_of_the_contract() {
        let key = mint_key(&"acme".parse().unwrap(), &"madrid-1".parse().unwrap());
        assert_eq!(
            key.to_string(),
            "0xe5e7a7e7741e0dcf80020808ce7fd7830db5d9eb4fc1ad2418da37e0a6ff6588"
        );
        let to = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8".parse().unwrap();
        let digest = mint_digest(key, to, 7, Hash32([0xab; 32]));
        assert_eq!(
            digest.to_string(),
            "0x6760071110c20df2055fe03d6d6a215c556d784c522e6097e2664fe955159b5e"
        );
    }

    #[test]
    fn a_name_cannot_slide_from_one_part_into_the_other() {
        let key = |tenant: &str, asset: &str| mint_key(&tenant.parse().unwrap(), &asset.parse().unwrap());
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }
}
