-- Run once, on the first master, while it takes writes; the replicas receive it.

-- The agent's account. It watches, fences, opens and re-points.
CREATE USER 'sengu'@'%' IDENTIFIED WITH caching_sha2_password BY 'change-me';
GRANT PROCESS, RELOAD, REPLICATION CLIENT ON *.* TO 'sengu'@'%';
GRANT SYSTEM_VARIABLES_ADMIN, REPLICATION_SLAVE_ADMIN, CONNECTION_ADMIN, XA_RECOVER_ADMIN,
    SYSTEM_USER ON *.* TO 'sengu'@'%';
GRANT SELECT ON performance_schema.* TO 'sengu'@'%';

-- The account that copies log in to their source with.
CREATE USER 'repl'@'%' IDENTIFIED WITH caching_sha2_password BY 'change-me-too';
GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%';

-- What the example writes to.
CREATE DATABASE app;
CREATE TABLE app.greeting (id INT PRIMARY KEY, text VARCHAR(100));
