// Makes the replica set, its admin and the users of access.json; running it again changes only what differs.
// mongosh --nodb --quiet --file access.js; from the environment: MONGODB_HOST (name:port), MONGODB_CA, ACCESS, SECRETS.
const fs = require("fs");
const { MONGODB_HOST, MONGODB_CA, ACCESS, SECRETS } = process.env;
const secret = (name) => fs.readFileSync(`${SECRETS}/${name}`, "utf8").trim();
const access = JSON.parse(fs.readFileSync(ACCESS, "utf8")).mongodb;
const DATABASE = "libertum";
const open = (user) => {
  const who = user ? `${user}:${encodeURIComponent(secret(`${user}-mongodb-password`))}@` : "";
  const tls = `tls=true&tlsCAFile=${encodeURIComponent(MONGODB_CA)}`;
  return new Mongo(`mongodb://${who}${MONGODB_HOST}/admin?directConnection=true&serverSelectionTimeoutMS=10000&${tls}`).getDB("admin");
};

const primary = (db) => {
  const deadline = Date.now() + 60000;
  while (!db.hello().isWritablePrimary) {
    if (Date.now() > deadline) throw new Error("the node has not become primary within a minute");
    sleep(200);
  }
};

// Before there is any user, and on loopback only, MongoDB lets the first one be made.
let admin;
try {
  admin = open("admin");
} catch (refused) {
  const first = open(null);
  if (!first.hello().setName) {
    const answer = first.runCommand({ replSetInitiate: { _id: "libertum", members: [{ _id: 0, host: MONGODB_HOST }] } });
    if (answer.ok !== 1 && answer.codeName !== "AlreadyInitialized") throw new Error(`replSetInitiate: ${answer.errmsg}`);
  }
  primary(first);
  first.createUser({ user: "admin", pwd: secret("admin-mongodb-password"), roles: ["root"] });
  admin = open("admin");
}
primary(admin);

const reads = (collection) => ({ resource: { db: DATABASE, collection }, actions: ["find", "listIndexes", "collStats", "listCollections", "dbStats"] });
const writes = (collection) => ({ resource: { db: DATABASE, collection }, actions: ["insert", "update", "remove"] });
for (const [user, { writes: collections, roles }] of Object.entries(access)) {
  let granted = roles.map(([role, db]) => ({ role, db }));
  if (granted.length === 0) {
    const definition = { privileges: [reads(""), ...collections.map(writes)], roles: [] };
    if (admin.getRole(user)) admin.updateRole(user, definition);
    else admin.createRole({ role: user, ...definition });
    granted = [{ role: user, db: "admin" }];
  }
  const definition = { pwd: secret(`${user}-mongodb-password`), roles: granted };
  if (admin.getUser(user)) admin.updateUser(user, definition);
  else admin.createUser({ user, ...definition });
}
print(`mongodb: ${Object.keys(access).length} users`);
