// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";

/// @title ERC-7943 (uRWA), the variant for tokens with many ids
/// @notice Names, types and order are fixed by https://eips.ethereum.org/EIPS/eip-7943; the interface id is
/// 0x41c4fbad. The comments say how to read it, the standard says what it demands.
interface IERC7943MultiToken is IERC165 {
    /// @notice `amount` of `tokenId` was moved from `from` to `to` without the holder's consent.
    event ForcedTransfer(address indexed from, address indexed to, uint256 indexed tokenId, uint256 amount);

    /// @notice The frozen amount of `tokenId` held by `account` is now `amount` (absolute, not a difference).
    event Frozen(address indexed account, uint256 indexed tokenId, uint256 amount);

    /// @notice `account` may not send.
    error ERC7943CannotSend(address account);

    /// @notice `account` may not receive.
    error ERC7943CannotReceive(address account);

    /// @notice This very transfer is not permitted.
    error ERC7943CannotTransfer(address from, address to, uint256 tokenId, uint256 amount);

    /// @notice `account` holds `amount`, but only `unfrozen` of it is free to move.
    error ERC7943InsufficientUnfrozenBalance(address account, uint256 tokenId, uint256 amount, uint256 unfrozen);

    /// @notice Moves `amount` of `tokenId` whatever the holder wants. Restricted. True, or a revert.
    function forcedTransfer(address from, address to, uint256 tokenId, uint256 amount) external returns (bool result);

    /// @notice Sets the frozen amount, overwriting the last one; it may exceed the balance. Restricted. True, or a revert.
    function setFrozenTokens(address account, uint256 tokenId, uint256 amount) external returns (bool result);

    /// @notice May `account` send at all? Never reverts.
    function canSend(address account) external view returns (bool allowed);

    /// @notice May `account` receive at all? Never reverts.
    function canReceive(address account) external view returns (bool allowed);

    /// @notice The frozen amount, which may exceed the balance.
    function getFrozenTokens(address account, uint256 tokenId) external view returns (uint256 amount);

    /// @notice Would a rule stand in the way of this transfer now? Never reverts.
    function canTransfer(address from, address to, uint256 tokenId, uint256 amount)
        external
        view
        returns (bool allowed);
}
