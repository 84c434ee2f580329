PRAGMA journal_mode = WAL;
BEGIN TRANSACTION;
CREATE TABLE episode (
    id INTEGER PRIMARY KEY, code TEXT NOT NULL, subject TEXT NOT NULL, check_id TEXT NOT NULL, target TEXT NOT NULL,
    severity TEXT NOT NULL, message TEXT NOT NULL, owner TEXT, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
    closed_ms INTEGER, runs INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0, told_severity TEXT, told_end INTEGER NOT NULL DEFAULT 0
  ) STRICT;
INSERT INTO "episode" VALUES(1,'demo.marker','service:demo','demo.marker','service:demo','crit','test ended with 1: it said nothing',NULL,1796015538977,1796015538977,NULL,1,0,NULL,0);
INSERT INTO "episode" VALUES(2,'network.docker-chains','engine:docker','network.chains','engine:docker','warn','rules of Docker are gone: all of its chains',NULL,1796015538977,1796015538977,NULL,1,0,NULL,0);
INSERT INTO "episode" VALUES(3,'time.unsynced','host','time.clock','host','warn','the clock is not synchronised 68 min after boot, and no time service runs',NULL,1796015538977,1796015538977,NULL,1,0,NULL,0);
CREATE TABLE sample (
               object TEXT NOT NULL, metric TEXT NOT NULL, at_ms INTEGER NOT NULL, value REAL NOT NULL,
               PRIMARY KEY (object, metric, at_ms)
             ) STRICT, WITHOUT ROWID;
INSERT INTO "sample" VALUES('0:27@/dev/shm','used_bytes',1796015538655,3231744.0);
INSERT INTO "sample" VALUES('254:0@/','used_bytes',1796015538655,47005229056.0);
INSERT INTO "sample" VALUES('clock:9d6d96ea-1b11-452d-b4a8-514a93dfc97d','boot_wall_ms',1796015538974,1796011453461.0);
INSERT INTO "sample" VALUES('clock@9d6d96ea-1b11-452d-b4a8-514a93dfc97d','booted_s',1796015538655,1.7960114534618856907e+09);
INSERT INTO "sample" VALUES('host','listen-overflows',1796015538666,0.0);
INSERT INTO "sample" VALUES('host@9d6d96ea-1b11-452d-b4a8-514a93dfc97d','oom_kills',1796015538671,0.0);
INSERT INTO "sample" VALUES('measure:host','memory_available',1796015538629,9.70438111269953509498e+01);
INSERT INTO "sample" VALUES('measure:mount:/','inodes_used',1796015538629,2.8713226318359375e+00);
INSERT INTO "sample" VALUES('measure:mount:/','used',1796015538629,4.81745460565996950217e+01);
INSERT INTO "sample" VALUES('measure:mount:/dev/shm','inodes_used',1796015538629,2.26430010645445203929e-04);
INSERT INTO "sample" VALUES('measure:mount:/dev/shm','used',1796015538629,1.27609463931888569149e-02);
CREATE TABLE told (what TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;
CREATE INDEX episode_of ON episode (code, subject, first_ms);
CREATE INDEX episode_open ON episode (closed_ms);
COMMIT;
PRAGMA user_version = 2;
