"""PostgreSQL: what users have set in it, and why it does not start, copy or follow."""

POSTGRESQL = {
    "setting.overridden": "%s on %s is %s, set in %s; the cluster sets it itself.",
    "setting.overridden.recommendation": (
        "On %s, run as a superuser: ALTER SYSTEM RESET %s; SELECT pg_reload_conf();"
    ),
    "setting.elsewhere.recommendation": (
        "On %s, remove %s from %s, then run SELECT pg_reload_conf();"
    ),
    "setting.of.role": "On %s, a setting is stored for a role of the cluster: %s.",
    "setting.of.role.recommendation": "On the active node, run: ALTER ROLE %s RESET ALL;",
    "setting.early.commit": (
        "On %s, for %s synchronous_commit is %s: commits are acknowledged before the passive node"
        " has them, and a failover may lose them."
    ),
    "setting.early.commit.recommendation": (
        "On the active node, run: ALTER %s RESET synchronous_commit;"
    ),
    "setting.differs": "The setting %s differs between the nodes: %s.",
    "setting.differs.recommendation": (
        "Compare %s in pg_settings on both nodes, and restart the one that waits for a restart."
    ),
    "check.setting": "%s It would be copied along. %s",
    "check.pending.restart": (
        "These settings of %s wait for a restart, and a new node starts with them: %s."
    ),
    "check.library.missing": (
        "The library %s, which %s loads at its next start, is not installed there: a new node"
        " would not start. Install it on all nodes, or remove it from the setting."
    ),
    "check.extension.missing": (
        "The extension %s of the database %s is not installed on %s: what needs it fails there, and"
        " on a new node that is like it."
    ),
    "check.function.missing": (
        "The library %s, which functions of the database %s are in, is not installed on %s: they"
        " fail there, and on a new node that is like it."
    ),
    "check.collation": (
        "The collation version on %s differs from the one that databases were created with: %s."
        " Indexes on text may be corrupt: run REINDEX DATABASE and ALTER DATABASE … REFRESH"
        " COLLATION VERSION for each."
    ),
    "collation.differs": (
        "The collation version on %s differs from the one that databases were created with: %s."
    ),
    "collation.differs.recommendation": (
        "Indexes on text may be corrupt there. Install the same version of the C library, and of"
        " ICU, on %s and the other nodes. Then run REINDEX DATABASE and ALTER DATABASE … REFRESH"
        " COLLATION VERSION on the active node."
    ),
    "check.slot": (
        "The replication slot %s of %s is on that node only: after a failover it does not exist,"
        " and whoever uses it has to create it on the new active node."
    ),
    "slot.left.behind": "The replication slot %s on %s does not exist on the passive node.",
    "slot.left.behind.recommendation": (
        "Whoever uses %s has to create it again on the new active node after a failover. Drop it if"
        " nobody does: it keeps the write-ahead log from being removed."
    ),
    "postgres.refuses": "PostgreSQL on %s refuses the cluster's own sessions: %s",
    "postgres.refuses.recommendation": (
        "Do not restart PostgreSQL on %s. On the active node, as another superuser, run ALTER ROLE"
        " postgres SUPERUSER LOGIN; the cluster then restores the rest."
    ),
    "check.postgres.silent": "The settings of PostgreSQL could not be checked: %s",
    "postgres.not.rejoining": "PostgreSQL on %s does not rejoin: %s",
    "postgres.not.rejoining.recommendation": (
        "Fix what PostgreSQL reports. If %s cannot be rewound, its data are copied again"
        " automatically."
    ),
    "postgres.not.starting": "PostgreSQL does not start on %s: %s",
    "postgres.not.starting.recommendation": (
        "Fix what PostgreSQL reports; a setting of postgresql.auto.conf that it refuses can be"
        " removed from that file on %s. Or redeploy the node."
    ),
    "undeploy.not.renewable": (
        "The passwords of the cluster's own roles cannot be changed on %s, which an undeploy ends"
        " with: %s"
    ),
}
