// A page of the published web client, reduced to its socket manager: it joins a session's channel,
// sends a message as the client's chat does, and keeps what the manager passes on.
// It is bundled with the manager's own file, which lies in lib/ beside it.

import { SocketIOManager } from "./lib/socketio-manager";

const SERVER = "00000000-0000-0000-0000-000000000000";

globalThis.converse = async ({ sessionId, userId, agentId }) => {
  const manager = SocketIOManager.getInstance();
  const passedOn = [];
  const arrived = async (count) => {
    for (let n = 0; passedOn.length < count && n < 200; n += 1) {
      await new Promise((done) => setTimeout(done, 50));
    }
  };
  manager.on("messageBroadcast", (message) => passedOn.push(message));
  manager.initialize(userId);
  await manager.joinChannel(sessionId);
  const attachments = [{ id: "1", url: "/a.png", type: "image", title: "A", contentType: "image" }];
  await manager.sendMessage("Hello", sessionId, SERVER, "client_chat", attachments, "temporary-1", {
    channelType: "DM",
    isDm: true,
    targetUserId: agentId,
  });
  await arrived(1);
  await fetch(`/api/messaging/sessions/${sessionId}/messages`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ content: "Hi, Ada", authorId: agentId }),
  });
  await arrived(2);
  return passedOn;
};
