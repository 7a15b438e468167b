// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC1155Receiver} from "@openzeppelin/contracts/token/ERC1155/IERC1155Receiver.sol";
import {ERC1155Holder} from "@openzeppelin/contracts/token/ERC1155/utils/ERC1155Holder.sol";
import {AssetToken} from "../src/AssetToken.sol";

/// @notice Refuses every token with a reason of its own.
contract RevertingReceiver is ERC1155Holder {
    error NotToday(uint256 id);

    function onERC1155Received(address, address, uint256 id, uint256, bytes memory)
        public
        pure
        override
        returns (bytes4)
    {
        revert NotToday(id);
    }
}

/// @notice Spends all the gas that it is given.
contract GasBurningReceiver is ERC1155Holder {
    uint256 private _spent;

    function onERC1155Received(address, address, uint256, uint256, bytes memory) public override returns (bytes4) {
        while (true) ++_spent;
        return this.onERC1155Received.selector;
    }
}

/// @notice Spends about 250,000 gas, well within the share of an item, and accepts.
contract HungryReceiver is ERC1155Holder {
    uint256 private _spent;

    function onERC1155Received(address, address, uint256, uint256, bytes memory) public override returns (bytes4) {
        uint256 start = gasleft();
        while (start - gasleft() < 250_000) ++_spent;
        return this.onERC1155Received.selector;
    }
}

/// @notice Refuses with 64 KiB of revert data, for which somebody has to pay.
contract ReturnBombReceiver is ERC1155Holder {
    function onERC1155Received(address, address, uint256, uint256, bytes memory)
        public
        pure
        override
        returns (bytes4)
    {
        assembly {
            mstore(0, not(0))
            revert(0, 65536)
        }
    }
}

/// @notice Calls back into the token while it receives, notes what happened, and accepts.
contract ReentrantReceiver is ERC1155Holder {
    AssetToken.MintItem private _item;
    /// @notice mintDigest of the received id, as seen from within the hook.
    bytes32 public digestSeen;
    bool public batchSucceeded;
    /// @notice Return or revert data of the calls that were made from within the hook.
    bytes public batchResult;
    bool public oneSucceeded;
    bytes public oneResult;

    /// @notice The item to ask for again while it is being received.
    function arm(AssetToken.MintItem calldata item) external {
        _item = item;
    }

    function onERC1155Received(address, address, uint256 id, uint256, bytes memory) public override returns (bytes4) {
        AssetToken token = AssetToken(msg.sender);
        digestSeen = token.mintDigest(bytes32(id));
        AssetToken.MintItem[] memory items = new AssetToken.MintItem[](1);
        items[0] = _item;
        (batchSucceeded, batchResult) = address(token).call(abi.encodeCall(token.mintBatch, (items)));
        (oneSucceeded, oneResult) = address(token).call(abi.encodeCall(token.mintOne, (items[0], digestSeen)));
        return IERC1155Receiver.onERC1155Received.selector;
    }
}
