PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE branch (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    name TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    next_account_num INTEGER NOT NULL CHECK (next_account_num > 0)
, events_reserved INTEGER NOT NULL DEFAULT 0 CHECK (events_reserved >= 0)) STRICT;
INSERT INTO branch VALUES(1,'Mumbai',1795834865195,1005,2000000);
CREATE TABLE customers (
    account_num INTEGER PRIMARY KEY CHECK (account_num > 0),
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    aadhar_num TEXT CHECK (aadhar_num IS NULL OR length(aadhar_num) = 12),
    phone_num TEXT CHECK (phone_num IS NULL OR length(phone_num) = 10),
    sms INTEGER NOT NULL DEFAULT 0 CHECK (sms IN (0, 1)),
    balance INTEGER NOT NULL DEFAULT 0,
    held INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed')),
    opened_unix_ms INTEGER NOT NULL,
    closed_unix_ms INTEGER, incoming INTEGER NOT NULL DEFAULT 0
    CHECK (incoming >= 0 AND balance + incoming <= 9999999999999999),
    CHECK (0 <= held AND held <= balance AND balance <= 9999999999999999),
    CHECK (status = 'open' OR balance = 0)
) STRICT;
INSERT INTO customers VALUES(1001,'Asha','Rao',NULL,NULL,0,119217,600,'open',1795834865510,NULL,0);
INSERT INTO customers VALUES(1002,'Vikram','Shah',NULL,NULL,0,106243,0,'open',1795834865510,NULL,700);
INSERT INTO customers VALUES(1003,'Old','Gone','123456789012','9876543210',0,0,0,'closed',1795834886780,1795834886819,0);
INSERT INTO customers VALUES(1004,'Meera','Iyer','210987654321','9123456780',1,51950,0,'open',1795834886795,NULL,0);
CREATE TABLE auth (
    account_num INTEGER PRIMARY KEY CHECK (account_num >= 0),
    password TEXT NOT NULL
) STRICT;
INSERT INTO auth VALUES(0,'$argon2id$v=19$m=19456,t=2,p=1$W+A7AkJRkxigdme4K+lJdg$9rbuBOWYZDvHoRqaLlo+2O9LjVU2vcK5NRaclp7poIk');
INSERT INTO auth VALUES(1001,'$argon2id$v=19$m=19456,t=2,p=1$0aP2TSMhaJq3TTT5bIm3NQ$/ajCKJ83GYOibvg3NeHeJIb/uY7tCERwbLDQRurp6/k');
INSERT INTO auth VALUES(1002,'$argon2id$v=19$m=19456,t=2,p=1$jD0D/sPD+sxv7xqN9exT+Q$0JVL6vAf0FWI2MxRVBikVeTVknvYuu8baNKHubyN1EE');
CREATE TABLE transactions (
    transaction_id INTEGER PRIMARY KEY CHECK (transaction_id > 0),
    from_account INTEGER NOT NULL,
    to_account INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0 AND amount <= 9999999999999999),
    type TEXT NOT NULL CHECK (type IN ('opening', 'deposit', 'withdrawal', 'transfer', 'closing',
                                       'transfer_out', 'transfer_in', 'settlement')),
    date INTEGER NOT NULL,
    txid TEXT,
    leg INTEGER,
    peer TEXT,
    hash BLOB NOT NULL CHECK (length(hash) = 32), note TEXT CHECK (note IS NULL OR type = 'settlement'),
    CHECK (from_account <> to_account),
    CHECK ((txid IS NULL) = (leg IS NULL))
) STRICT;
INSERT INTO transactions VALUES(1,-1,1001,100000,'opening',1795834865510,NULL,NULL,NULL,X'6ded673d30419b8da8de444a1aea96e39d3322f136d85cbe200d3dab56153139',NULL);
INSERT INTO transactions VALUES(2,-1,1002,100000,'opening',1795834865510,NULL,NULL,NULL,X'd38984b5d5a66021bd1c1e5609348b2a313b483c3731836f067f6f52b0b989b5',NULL);
INSERT INTO transactions VALUES(3,-1,1001,25050,'deposit',1795834868124,NULL,NULL,NULL,X'd0d909005be343677a1c8c27adec04127e59b95c2973a9175fa19f4518612fcc',NULL);
INSERT INTO transactions VALUES(4,1002,-1,2000,'withdrawal',1795834868128,NULL,NULL,NULL,X'63db802a91f391733d709dead620ca3e2aea5195b92c634399e07116bd7a7fd9',NULL);
INSERT INTO transactions VALUES(5,1001,1002,3333,'transfer',1795834868138,NULL,NULL,NULL,X'476d3e8948bcadb04299132b3ed6fa7d2496e85ffa477f86e15dea3e70da8b1f',NULL);
INSERT INTO transactions VALUES(6,1002,1001,100,'transfer',1795834868149,NULL,NULL,NULL,X'f3527d0935cce746a9a87584441b4755ee369e8ec0db42c0a60ea10fc49e03bd',NULL);
INSERT INTO transactions VALUES(7,1001,-1001,1200,'transfer_out',1795834868164,'Mumbai-1a2201971c3d324900b',0,'Delhi',X'a7bd6b4deac19f51a35d5ff104755b146a09bb8501f3ab8477f8f68fa3d7c24b',NULL);
INSERT INTO transactions VALUES(8,-1001,1002,4510,'transfer_in',1795834868172,'Delhi-1a2201971caf9f93cfc',1,'Delhi',X'039fb1e25a111543a83433b094be3fbdb16ca70011f73d03f907b7564b1c52cc',NULL);
INSERT INTO transactions VALUES(9,-1,1003,2000,'opening',1795834886780,NULL,NULL,NULL,X'cd40703947b2c26eddcb0acd7ac5485b2e242ee72660ce82206de622fd19faf5',NULL);
INSERT INTO transactions VALUES(10,-1,1004,50000,'opening',1795834886795,NULL,NULL,NULL,X'0fd6b81a290663bf44466f663a0971f47d823f496ccc46aa2c14b7a32f72148c',NULL);
INSERT INTO transactions VALUES(11,1003,1004,300,'transfer',1795834886805,NULL,NULL,NULL,X'cc595b13c1c4803faabf856c221a29f42db9db123a2f308d10c1a2708428ac99',NULL);
INSERT INTO transactions VALUES(12,1003,-1,1700,'closing',1795834886819,NULL,NULL,NULL,X'802fc57e948aed7a2bb6093d34ab262b040762e8efee0cea18a3af7ecab2cddc',NULL);
INSERT INTO transactions VALUES(13,1001,1004,100,'transfer',1795834886852,NULL,NULL,NULL,X'8604e0c502868ee41a4774ca894fd858b17c6cf5e5fac69815a9eea363af9b02',NULL);
INSERT INTO transactions VALUES(14,-1,1002,100,'deposit',1795834886862,NULL,NULL,NULL,X'096457162a96c0c1b6faa16a00a912bbc8ca2a7a66879d03c5e573f30ce79ae4',NULL);
INSERT INTO transactions VALUES(15,1001,1004,200,'transfer',1795834886869,NULL,NULL,NULL,X'12b5eaf34f0f609ce72c38b03561cfe70bc29747bbbf466bc71ba63ce16ea459',NULL);
INSERT INTO transactions VALUES(16,-1,1002,100,'deposit',1795834886879,NULL,NULL,NULL,X'13aabb0ce32d27dbd084521290758abaf4b726ad1b2a64155b91072dc3e3ccb4',NULL);
INSERT INTO transactions VALUES(17,1001,1004,300,'transfer',1795834886895,NULL,NULL,NULL,X'7c60ac60503627f515566067e793bdf41307742f47c7342f68ff255114dbe0ce',NULL);
INSERT INTO transactions VALUES(18,-1,1002,100,'deposit',1795834886907,NULL,NULL,NULL,X'13248b388494c1f48bb7dba4ca983264b23e8b3b27ff23a2934d344dca7e74de',NULL);
INSERT INTO transactions VALUES(19,1001,1004,400,'transfer',1795834886916,NULL,NULL,NULL,X'9effdeac5029b9228f3bcf1cb98dc0fccf20ea11e9886d12981c5e30b5c651d0',NULL);
INSERT INTO transactions VALUES(20,-1,1002,100,'deposit',1795834886929,NULL,NULL,NULL,X'916ffe34b4b008d482f3cced192e160c281aeb4463762f7a29976d5efbc453d8',NULL);
INSERT INTO transactions VALUES(21,1001,1004,500,'transfer',1795834886941,NULL,NULL,NULL,X'043124ecba4e1750f7f52cc19b38d048ca963bf0985b38c76693d01c320f150d',NULL);
INSERT INTO transactions VALUES(22,-1,1002,100,'deposit',1795834886959,NULL,NULL,NULL,X'76bb2734eaf4db6d8d48b0ab1cbaaa6f44b4131ed02c31c6418fb1417b6379bc',NULL);
INSERT INTO transactions VALUES(23,-1,1004,250,'deposit',1795834906726,NULL,NULL,NULL,X'b31de59e46699d2ecfefbb6b3ffcc0664dd4ef27d1e90a52bd0dce8a9c15fa39',NULL);
INSERT INTO transactions VALUES(24,1004,1001,100,'transfer',1795834906730,NULL,NULL,NULL,X'68c31cecd237c7fa08a3fa0d0b6a43acd311a27fe15a9837b9e3873f3c36a0ec',NULL);
CREATE TABLE sms_outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    phone_num TEXT NOT NULL,
    body TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_unix_ms INTEGER NOT NULL,
    given_up_unix_ms INTEGER,
    last_error TEXT
, failing_since_unix_ms INTEGER) STRICT;
CREATE TABLE coordinated (
    txid TEXT PRIMARY KEY,
    transfer TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('begun', 'committed', 'ended')),
    changed_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO coordinated VALUES('Mumbai-1a2201971c3d324900b','{"txid":"Mumbai-1a2201971c3d324900b","coordinator":"Mumbai","legs":[{"index":0,"branch":null,"account":"1001","amount":12.00,"side":"withdraw"},{"index":1,"branch":"Delhi","account":"1002","amount":12.00,"side":"deposit"}],"note":"{\"account\":\"1001\",\"name\":\"Asha Rao\"}"}','ended',1795834865170);
CREATE TABLE prepared (
    txid TEXT PRIMARY KEY,
    transfer TEXT,
    state TEXT NOT NULL CHECK (state IN ('prepared', 'committed', 'aborted')),
    by_hand TEXT,
    confirmed INTEGER NOT NULL DEFAULT 0 CHECK (confirmed IN (0, 1)),
    mixed TEXT CHECK (mixed IN ('committed', 'aborted')),
    prepared_unix_ms INTEGER NOT NULL,
    changed_unix_ms INTEGER NOT NULL,
    CHECK (state <> 'prepared' OR transfer IS NOT NULL)
) STRICT, WITHOUT ROWID;
INSERT INTO prepared VALUES('Delhi-1a2201971caf9f93cfc','{"txid":"Delhi-1a2201971caf9f93cfc","coordinator":"Delhi","legs":[{"index":1,"branch":null,"account":"1002","amount":45.10,"side":"deposit"}],"note":"{\"account\":\"1001\",\"name\":\"Asha Rao\"}"}','committed',NULL,0,NULL,1795834868171,1795834865170);
INSERT INTO prepared VALUES('fixture-in','{"txid":"fixture-in","coordinator":null,"legs":[{"index":1,"branch":null,"account":"1002","amount":7.00,"side":"deposit"}],"note":"","by_program":true}','prepared',NULL,0,NULL,1795834886843,1795834886843);
INSERT INTO prepared VALUES('fixture-out','{"txid":"fixture-out","coordinator":null,"legs":[{"index":0,"branch":null,"account":"1001","amount":6.00,"side":"withdraw"}],"note":"","by_program":true}','prepared',NULL,0,NULL,1795834886829,1795834886829);
CREATE TABLE answers (
    caller TEXT NOT NULL,
    request_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    answer TEXT NOT NULL,
    txid TEXT,
    at_unix_ms INTEGER NOT NULL, password_hashes TEXT,
    PRIMARY KEY (caller, request_id)
) STRICT, WITHOUT ROWID;
INSERT INTO answers VALUES('key','01a220197192ee334d0533d442c0',X'c98556c21effe9c58e5146cc2a60c6db70245f1f8c67a2a43740228b2f4457c9','{"balance":1250.50}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a2201971a00cdefda14379e370',X'11ac36d2a65e437c9b5cdf61a7728c9d9ce863dcb46a4097e6b05a3e03377d4d','{"balance":980.00}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a2201971a35dbe5e32b1126781',X'8224c38e9682e0e3ba7cd87435bc392b3a6fd5421114a343bbe9ec142fd3eb18','{"from":{"account":"1001","balance":1217.17},"to":{"account":"1002","balance":1013.33},"amount":33.33}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a2201971b5eae7c2e98d69c29a',X'a8501ca09dd5fa99a7e5c15621e95c982c8e86487d8b44c1192342bdb9c8b271','{"from":{"account":"1002","balance":1012.33},"to":{"account":"1001","balance":1218.17},"amount":1.00}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a2201971bf8122475ef6dd3ede',X'9926e70056dfaa7087961af64c5e63f3d83c8423cdd808add298df043bf62642','{"status":"transfer_complete","txid":"Mumbai-1a2201971c3d324900b","amount":12.00,"from":"Mumbai:1001","to":"Delhi:1002","delivery":"pending"}','Mumbai-1a2201971c3d324900b',1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019ba7cc4ab12f788d9b353',X'1c33747667dc49f51fe621010ec067ee211bab02224f56536c7a4e45c876cf81','{"account_no":"1003"}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019ba880650d52e0838d36b',X'5d8a3fbe2e069c5e3e1f95eff62a2201cb052e73f7fbc55bed2afa14375d2b85','{"account_no":"1004"}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019ba8e769c21c9789d3b61',X'5cb4851a7dffcc4984bed98be64bc08e31035b0fdbfc1b5433bc84ceedecbdf4','{"from":{"account":"1003","balance":17.00},"to":{"account":"1004","balance":503.00},"amount":3.00}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019ba9ddd5d1ee56ec36158',X'25fea0b4f7872d7d172691cf4b908537893cafda94f05dc00536778f69895e8b','{"account_no":"1003","paid_out":17.00}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019bac3a02230479fc9b6c7',X'8983c6cbf892d892815d0ea005f51dc8acfe243eda6a89a9fd493d8089ef37cc','{"from":{"account":"1001","balance":1205.17},"to":{"account":"1004","balance":504.00},"amount":1.00}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019bacdd1d2d5eedf23a42c',X'6accc426e6eec2fccaf92a2b8cbe4ff559ed52e8753d5934f3022d14e50529ec','{"balance":1058.43}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019bad5524e7ea7ebf58cb6',X'09d8a5b0d6fb10375a41dcc050f2dee55af097e124f661f207874f61d0c6f692','{"from":{"account":"1001","balance":1203.17},"to":{"account":"1004","balance":506.00},"amount":2.00}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019bada36c1ca9134dbaad3',X'6accc426e6eec2fccaf92a2b8cbe4ff559ed52e8753d5934f3022d14e50529ec','{"balance":1059.43}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019bae534c7b3a907a14dcd',X'2b2bf226d3dce06a0610a43413381d15826a21bdca118f5332dc4eab4c53027a','{"from":{"account":"1001","balance":1200.17},"to":{"account":"1004","balance":509.00},"amount":3.00}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019baf362771e1e5d89c88a',X'6accc426e6eec2fccaf92a2b8cbe4ff559ed52e8753d5934f3022d14e50529ec','{"balance":1060.43}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019bb04bbd83a2570888a97',X'abfd80e7086550386df9bf525f1595a07a24efab3ea4d4d017340f7dd6c5a812','{"from":{"account":"1001","balance":1196.17},"to":{"account":"1004","balance":513.00},"amount":4.00}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019bb11d70084bae37cee32',X'6accc426e6eec2fccaf92a2b8cbe4ff559ed52e8753d5934f3022d14e50529ec','{"balance":1061.43}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019bb1dd4c6d00b2b1bdd7a',X'7a54cc6b9b84d11f4c0585761e0e25b73533ce4a27cb451f06471e780ecf1995','{"from":{"account":"1001","balance":1191.17},"to":{"account":"1004","balance":518.00},"amount":5.00}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('key','01a22019bb28398d6a4fa794ddf6',X'6accc426e6eec2fccaf92a2b8cbe4ff559ed52e8753d5934f3022d14e50529ec','{"balance":1062.43}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('open','fixture-deposit',X'e91b9fffcb2ff6b58251323166f13a443ec855bf447e312dfe6087b3581b9041','{"balance":520.50}',NULL,1795834865170,NULL);
INSERT INTO answers VALUES('open','fixture-transfer',X'053171c75c4c53e83daf4f650083e700bc5c545d599e37b8fce63bccc925f7b7','{"from":{"account":"1004","balance":519.50},"to":{"account":"1001","balance":1192.17},"amount":1.00}',NULL,1795834865170,NULL);
CREATE TABLE branches (
    name TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535)
, epoch INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0), epoch_id TEXT NOT NULL DEFAULT '') STRICT, WITHOUT ROWID;
INSERT INTO branches VALUES('Delhi','127.0.0.1',9801,0,'');
CREATE TABLE replication_standing (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    role TEXT NOT NULL CHECK (role IN ('primary', 'replica', 'fenced')),
    epoch INTEGER NOT NULL CHECK (epoch > 0),
    heard_epoch INTEGER NOT NULL CHECK (heard_epoch >= epoch),
    is_logging INTEGER NOT NULL CHECK (is_logging IN (0, 1)),
    primary_address TEXT,
    promoted_from TEXT,
    diverged TEXT
, epoch_id TEXT NOT NULL DEFAULT '', heard_epoch_id TEXT NOT NULL DEFAULT '', wants_snapshot INTEGER NOT NULL DEFAULT 0 CHECK (wants_snapshot IN (0, 1)), started_with TEXT) STRICT;
INSERT INTO replication_standing VALUES(1,'primary',1,1,0,NULL,NULL,NULL,'','',0,NULL);
CREATE TABLE replication_log (
    sequence INTEGER PRIMARY KEY CHECK (sequence > 0),
    epoch INTEGER NOT NULL CHECK (epoch > 0),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    at_unix_ms INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TABLE replication_epochs (
    epoch INTEGER PRIMARY KEY CHECK (epoch > 0),
    after_sequence INTEGER NOT NULL CHECK (after_sequence >= 0),
    after_digest BLOB CHECK (after_digest IS NULL OR length(after_digest) = 32),
    began_unix_ms INTEGER NOT NULL,
    heard_sequence INTEGER,
    silent_ms INTEGER
, id TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE replication_members (
    address TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS "own_accounts" (
    account_num INTEGER PRIMARY KEY CHECK (account_num < 0),
    name TEXT NOT NULL UNIQUE,
    credited INTEGER NOT NULL DEFAULT 0 CHECK (credited >= 0 AND credited < 1000000000000000000),
    debited INTEGER NOT NULL DEFAULT 0 CHECK (debited >= 0 AND debited < 1000000000000000000),
    credited_carry INTEGER NOT NULL DEFAULT 0 CHECK (credited_carry >= 0),
    debited_carry INTEGER NOT NULL DEFAULT 0 CHECK (debited_carry >= 0),
    peer TEXT
) STRICT;
INSERT INTO own_accounts VALUES(-1001,'due Delhi',1200,4510,0,0,'Delhi');
INSERT INTO own_accounts VALUES(-2,'suspense',0,0,0,0,NULL);
INSERT INTO own_accounts VALUES(-1,'cash',3700,277800,0,0,NULL);
CREATE TABLE contradicted (
    txid TEXT NOT NULL,
    peer TEXT NOT NULL,
    transfer TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('committed', 'aborted')),
    code TEXT NOT NULL,
    text TEXT NOT NULL,
    since_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (txid, peer)
) STRICT, WITHOUT ROWID;
CREATE TABLE settled_by_hand (
    txid TEXT NOT NULL,
    at_unix_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('committed', 'aborted')),
    reason TEXT NOT NULL,
    PRIMARY KEY (txid, at_unix_ms)
) STRICT, WITHOUT ROWID;
CREATE TABLE running_time (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    unix_ms INTEGER NOT NULL,
    wall_clock_until_unix_ms INTEGER NOT NULL
) STRICT;
INSERT INTO running_time VALUES(1,1795834865170,0);
CREATE TABLE answers_kept (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL
) STRICT;
INSERT INTO answers_kept VALUES(1,21);
CREATE TABLE replication_opening (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    opened TEXT NOT NULL
) STRICT;
INSERT INTO replication_opening VALUES(1,'1dd58dc8238d63d2');
DELETE FROM sqlite_sequence;
CREATE UNIQUE INDEX customers_aadhar ON customers (aadhar_num) WHERE status = 'open' AND aadhar_num IS NOT NULL;
CREATE UNIQUE INDEX customers_phone ON customers (phone_num) WHERE status = 'open' AND phone_num IS NOT NULL;
CREATE INDEX transactions_from ON transactions (from_account);
CREATE INDEX transactions_to ON transactions (to_account);
CREATE UNIQUE INDEX transactions_leg ON transactions (txid, leg) WHERE txid IS NOT NULL;
CREATE TRIGGER transactions_no_update BEFORE UPDATE ON transactions
BEGIN SELECT RAISE(ABORT, 'transactions is append-only'); END;
CREATE TRIGGER transactions_no_delete BEFORE DELETE ON transactions
BEGIN SELECT RAISE(ABORT, 'transactions is append-only'); END;
CREATE INDEX sms_outbox_due ON sms_outbox (due_unix_ms) WHERE given_up_unix_ms IS NULL;
CREATE INDEX coordinated_open ON coordinated (state) WHERE state IN ('begun', 'committed');
CREATE INDEX prepared_open ON prepared (state) WHERE state = 'prepared';
CREATE INDEX answers_at ON answers (at_unix_ms);
CREATE UNIQUE INDEX own_accounts_peer ON own_accounts (peer) WHERE peer IS NOT NULL;
CREATE TRIGGER answers_one_more AFTER INSERT ON answers BEGIN UPDATE answers_kept SET count = count + 1; END;
CREATE TRIGGER answers_one_less AFTER DELETE ON answers BEGIN UPDATE answers_kept SET count = count - 1; END;
COMMIT;
PRAGMA application_id=1111576139;
PRAGMA user_version=4;
