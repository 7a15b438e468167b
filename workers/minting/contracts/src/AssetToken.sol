// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {ERC1155} from "@openzeppelin/contracts/token/ERC1155/ERC1155.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IERC7943MultiToken} from "./IERC7943MultiToken.sol";

/// @title The asset token: one ERC-1155 id for each asset, issued exactly once
/// @notice The key of an asset is its token id. A key is minted at most once, whatever the caller repeats, loses or
/// replays: the rule lives here, in the state that every node agrees on, and not in the worker. There is no burn and
/// no second issuance, so the supply of an id is the amount in its `AssetMinted` event, for ever.
/// @dev Everybody may hold tokens unless COMPLIANCE_ROLE denies the account.
contract AssetToken is ERC1155, AccessControl, Pausable, IERC7943MultiToken {
    /// @notice One issuance.
    /// @param key Token id, keccak256(abi.encode("libertum.mint.v1", tenant, assetId)).
    /// @param to Holder of the whole issuance.
    /// @param amount Units, more than zero.
    /// @param evidence SHA-256 of the valuation report.
    struct MintItem {
        bytes32 key;
        address to;
        uint256 amount;
        bytes32 evidence;
    }

    /// @notice What became of an item. `None` is never returned: an unset value must not read as a success.
    enum Outcome {
        None,
        Minted,
        AlreadyMinted,
        KeyConflict,
        Failed
    }

    /// @notice May call `mintBatch`. No other contract or path mints.
    bytes32 public constant MINTER_ROLE = keccak256("MINTER_ROLE");
    /// @notice May pause and unpause minting and holders' transfers.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    /// @notice May freeze amounts and force transfers.
    bytes32 public constant ENFORCER_ROLE = keccak256("ENFORCER_ROLE");
    /// @notice May deny accounts and allow them again.
    bytes32 public constant COMPLIANCE_ROLE = keccak256("COMPLIANCE_ROLE");

    /// @notice Gas that every item gets, the receiver's hook included: no more, and no less.
    uint256 public constant MINT_GAS = 400_000;
    /// @dev What may be spent between the check of the gas that is left and the call: a few dozen, rounded up well.
    uint256 private constant CALL_MARGIN = 5_000;
    /// @dev Bytes of a failure's reason that are kept. A receiver chooses its revert data; the batch pays for copying it.
    uint256 private constant MAX_REASON = 256;

    /// @notice key => keccak256(abi.encode(item)), zero while the key is unused. Written once.
    mapping(bytes32 key => bytes32 digest) public mintDigest;
    mapping(address account => mapping(uint256 tokenId => uint256 amount)) private _frozen;
    mapping(address account => bool) private _denied;

    event AssetMinted(bytes32 indexed key, address indexed to, uint256 amount, bytes32 evidence);
    event MintSkipped(bytes32 indexed key, Outcome outcome, bytes reason);
    event AccountDenied(address indexed account, bool denied);
    event UriTemplateSet(string template);

    error ZeroAdmin();
    error ZeroKey();
    error ZeroRecipient();
    error ZeroAmount();
    error ZeroEvidence();
    error OnlySelf();
    /// @notice The item at `index` could not be given MINT_GAS: send the batch with more gas, or a smaller batch.
    error InsufficientGas(uint256 index);

    /// @param admin Gets DEFAULT_ADMIN_ROLE, and grants every other role.
    /// @param minters Get MINTER_ROLE at once, so that a deployment is one transaction.
    /// @param uriTemplate Address of an id's metadata, with `{id}` in it (ERC-1155 metadata extension).
    constructor(address admin, address[] memory minters, string memory uriTemplate) ERC1155(uriTemplate) {
        require(admin != address(0), ZeroAdmin());
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        for (uint256 i = 0; i < minters.length; ++i) {
            _grantRole(MINTER_ROLE, minters[i]);
        }
        emit UriTemplateSet(uriTemplate);
    }

    /// @notice Mints every item whose key is unused and says of each what became of it.
    /// @dev One item never reverts the batch. The batch reverts as a whole when the caller lacks the role, the contract
    /// is paused, or the gas does not suffice to give every item its share; then nothing has happened.
    function mintBatch(MintItem[] calldata items)
        external
        onlyRole(MINTER_ROLE)
        whenNotPaused
        returns (Outcome[] memory outcomes)
    {
        outcomes = new Outcome[](items.length);
        for (uint256 i = 0; i < items.length; ++i) {
            MintItem calldata item = items[i];
            bytes32 digest = keccak256(abi.encode(item));
            bytes32 known = mintDigest[item.key];
            bytes memory reason;
            if (known == digest) {
                outcomes[i] = Outcome.AlreadyMinted;
            } else if (known != 0) {
                outcomes[i] = Outcome.KeyConflict;
            } else {
                bool minted;
                (minted, reason) = _tryMint(i, item, digest);
                outcomes[i] = minted ? Outcome.Minted : Outcome.Failed;
                if (minted) continue;
            }
            emit MintSkipped(item.key, outcomes[i], reason);
        }
    }

    /// @notice Mints one item or reverts. Only this contract calls it, so that a failure stays with its item.
    function mintOne(MintItem calldata item, bytes32 digest) external {
        require(msg.sender == address(this), OnlySelf());
        require(item.key != 0, ZeroKey());
        require(item.to != address(0), ZeroRecipient());
        require(item.amount != 0, ZeroAmount());
        require(item.evidence != 0, ZeroEvidence());
        require(canReceive(item.to), ERC7943CannotReceive(item.to));
        // Before the receiver's hook, which may call back into mintBatch.
        mintDigest[item.key] = digest;
        emit AssetMinted(item.key, item.to, item.amount, item.evidence);
        _mint(item.to, uint256(item.key), item.amount, "");
    }

    /// @dev The call gets exactly MINT_GAS or is not made. A CALL hands on at most all but one 64th of what is left
    /// (EIP-150) and silently less than it was asked to, so an item late in a batch that runs short would look like a
    /// failure of its receiver; and its reason would be the receiver's to size. Hence the check and the bounded copy.
    function _tryMint(uint256 index, MintItem calldata item, bytes32 digest)
        private
        returns (bool minted, bytes memory reason)
    {
        bytes memory data = abi.encodeCall(this.mintOne, (item, digest));
        uint256 left = gasleft();
        require(left - left / 64 >= MINT_GAS + CALL_MARGIN, InsufficientGas(index));
        assembly ("memory-safe") {
            minted := call(MINT_GAS, address(), 0, add(data, 0x20), mload(data), 0, 0)
            if iszero(minted) {
                let size := returndatasize()
                if gt(size, MAX_REASON) { size := MAX_REASON }
                reason := mload(0x40)
                mstore(reason, size)
                returndatacopy(add(reason, 0x20), 0, size)
                mstore(0x40, add(reason, and(add(size, 0x3f), not(0x1f))))
            }
        }
    }

    /// @inheritdoc ERC1155
    function safeTransferFrom(address from, address to, uint256 id, uint256 value, bytes memory data)
        public
        override
        whenNotPaused
    {
        _requireEligible(from, to);
        _requireUnfrozen(from, id, value);
        super.safeTransferFrom(from, to, id, value, data);
    }

    /// @inheritdoc ERC1155
    function safeBatchTransferFrom(
        address from,
        address to,
        uint256[] memory ids,
        uint256[] memory values,
        bytes memory data
    ) public override whenNotPaused {
        require(ids.length == values.length, ERC1155InvalidArrayLength(ids.length, values.length));
        _requireEligible(from, to);
        for (uint256 i = 0; i < ids.length; ++i) {
            // An id may be listed more than once: what counts is its sum. Most holdings are not frozen and cost no sum.
            if (_frozen[from][ids[i]] == 0) continue;
            uint256 sum;
            for (uint256 j = 0; j <= i; ++j) {
                if (ids[j] == ids[i]) sum += values[j];
            }
            _requireUnfrozen(from, ids[i], sum);
        }
        super.safeBatchTransferFrom(from, to, ids, values, data);
    }

    /// @inheritdoc IERC7943MultiToken
    /// @dev Passes a pause, a freeze and a denied sender, but not a denied recipient: ERC-7943 demands that check.
    /// What is taken out of the frozen part is unfrozen first; a freeze beyond the balance stays for what may come.
    function forcedTransfer(address from, address to, uint256 tokenId, uint256 amount)
        external
        onlyRole(ENFORCER_ROLE)
        returns (bool)
    {
        require(canReceive(to), ERC7943CannotReceive(to));
        uint256 balance = balanceOf(from, tokenId);
        require(amount <= balance, ERC1155InsufficientBalance(from, balance, amount, tokenId));
        uint256 unfrozen = _unfrozen(balance, _frozen[from][tokenId]);
        if (amount > unfrozen) {
            uint256 remaining = _frozen[from][tokenId] - (amount - unfrozen);
            _frozen[from][tokenId] = remaining;
            emit Frozen(from, tokenId, remaining);
        }
        emit ForcedTransfer(from, to, tokenId, amount);
        _safeTransferFrom(from, to, tokenId, amount, "");
        return true;
    }

    /// @inheritdoc IERC7943MultiToken
    function setFrozenTokens(address account, uint256 tokenId, uint256 amount)
        external
        onlyRole(ENFORCER_ROLE)
        returns (bool)
    {
        _frozen[account][tokenId] = amount;
        emit Frozen(account, tokenId, amount);
        return true;
    }

    /// @notice Denies `account` both sending and receiving, or allows it again.
    function setDenied(address account, bool denied) external onlyRole(COMPLIANCE_ROLE) {
        _denied[account] = denied;
        emit AccountDenied(account, denied);
    }

    /// @notice Changes where the metadata of all ids is found.
    function setUriTemplate(string calldata template) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setURI(template);
        emit UriTemplateSet(template);
    }

    /// @notice Stops minting and holders' transfers. Enforcement goes on.
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @notice Ends a pause.
    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    /// @inheritdoc IERC7943MultiToken
    function canSend(address account) public view returns (bool) {
        return !_denied[account];
    }

    /// @inheritdoc IERC7943MultiToken
    function canReceive(address account) public view returns (bool) {
        return !_denied[account];
    }

    /// @inheritdoc IERC7943MultiToken
    function getFrozenTokens(address account, uint256 tokenId) external view returns (uint256) {
        return _frozen[account][tokenId];
    }

    /// @inheritdoc IERC7943MultiToken
    /// @dev Without a freeze the balance is not asked: a transfer beyond it fails by ERC-1155, not by a rule.
    function canTransfer(address from, address to, uint256 tokenId, uint256 amount) external view returns (bool) {
        if (paused() || !canSend(from) || !canReceive(to)) return false;
        uint256 frozen = _frozen[from][tokenId];
        return frozen == 0 || amount <= _unfrozen(balanceOf(from, tokenId), frozen);
    }

    /// @inheritdoc IERC165
    function supportsInterface(bytes4 interfaceId)
        public
        view
        override(ERC1155, AccessControl, IERC165)
        returns (bool)
    {
        return interfaceId == type(IERC7943MultiToken).interfaceId || super.supportsInterface(interfaceId);
    }

    function _requireEligible(address from, address to) private view {
        require(canSend(from), ERC7943CannotSend(from));
        require(canReceive(to), ERC7943CannotReceive(to));
    }

    /// @dev ERC-7943: an amount beyond the balance is reported by the base standard's error, not as frozen.
    function _requireUnfrozen(address from, uint256 id, uint256 amount) private view {
        uint256 frozen = _frozen[from][id];
        if (frozen == 0) return;
        uint256 balance = balanceOf(from, id);
        require(amount <= balance, ERC1155InsufficientBalance(from, balance, amount, id));
        uint256 unfrozen = _unfrozen(balance, frozen);
        require(amount <= unfrozen, ERC7943InsufficientUnfrozenBalance(from, id, amount, unfrozen));
    }

    /// @dev The part of `balance` that is free to move.
    function _unfrozen(uint256 balance, uint256 frozen) private pure returns (uint256) {
        return balance > frozen ? balance - frozen : 0;
    }
}
