-- Run once, on the first master, while it takes writes; the replicas receive it.

-- The agent's account, from its own host only. It watches, fences, opens and re-points.
CREATE USER 'sengu'@'localhost' IDENTIFIED BY 'change-me';
GRANT PROCESS, RELOAD, BINLOG MONITOR, SLAVE MONITOR, REPLICATION SLAVE ADMIN,
    REPLICATION MASTER ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN, BINLOG ADMIN
    ON *.* TO 'sengu'@'localhost';
-- Who would write in spite of read_only.
GRANT SELECT ON mysql.global_priv TO 'sengu'@'localhost';
GRANT SELECT ON mysql.roles_mapping TO 'sengu'@'localhost';

-- The account that copies log in to their source with.
CREATE USER 'repl'@'%' IDENTIFIED BY 'change-me-too';
GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%';

-- What the example writes to.
CREATE DATABASE app;
CREATE TABLE app.greeting (id INT PRIMARY KEY, text VARCHAR(100));
