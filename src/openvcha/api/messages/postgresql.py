"""PostgreSQL: settings that users changed, and why it does not start, copy or follow."""

POSTGRESQL = {
    "setting.overridden": "%s on %s is set to %s in %s; only the cluster may set it.",
    "setting.overridden.recommendation": (
        "On %s, run as a superuser: ALTER SYSTEM RESET %s; SELECT pg_reload_conf();"
    ),
    "setting.elsewhere.recommendation": (
        "On %s, remove %s from %s, then run SELECT pg_reload_conf();"
    ),
    "setting.of.role": "On %s, a role of the cluster has a setting of its own: %s.",
    "setting.of.role.recommendation": "On the active node, run: ALTER ROLE %s RESET ALL;",
    "setting.early.commit": (
        "On %s, synchronous_commit for %s is %s: commits are acknowledged before the passive node"
        " has them, and a failover may lose them."
    ),
    "setting.early.commit.recommendation": (
        "On the active node, run: ALTER %s RESET synchronous_commit;"
    ),
    "setting.differs": "The setting %s differs between the nodes: %s.",
    "setting.differs.recommendation": (
        "Compare %s in pg_settings on both nodes, and restart the node on which a restart is"
        " pending."
    ),
    "check.setting": "%s A new node would inherit it. %s",
    "check.pending.restart": (
        "These settings of %s take effect at its next restart, but a new node starts with them: %s."
    ),
    "check.library.missing": (
        "The library %s, which %s loads at its next start, is not installed there; a new node would"
        " not start. Install it on all nodes, or remove it from the setting."
    ),
    "check.extension.missing": (
        "The extension %s of the database %s is not installed on %s. What needs it fails there, and"
        " on a new node set up the same way."
    ),
    "check.function.missing": (
        "The library %s, which functions of the database %s need, is not installed on %s. They fail"
        " there, and on a new node set up the same way."
    ),
    "check.collation": (
        "The collation version on %s differs from the one with which databases were created: %s."
        " Indexes on text may be corrupt: run REINDEX DATABASE and ALTER DATABASE … REFRESH"
        " COLLATION VERSION for each."
    ),
    "collation.differs": (
        "The collation version on %s differs from the one with which databases were created: %s."
    ),
    "collation.differs.recommendation": (
        "Indexes on text may be corrupt there. Install the same versions of the C library and of"
        " ICU on %s and the other nodes. Then run REINDEX DATABASE and ALTER DATABASE … REFRESH"
        " COLLATION VERSION on the active node."
    ),
    "check.slot": (
        "The replication slot %s of %s exists only on that node. After a failover, whoever uses it"
        " must create it on the new active node."
    ),
    "slot.left.behind": "The replication slot %s on %s does not exist on the passive node.",
    "slot.left.behind.recommendation": (
        "After a failover, whoever uses %s must create it again on the new active node. Drop it if"
        " nobody uses it: it keeps write-ahead log from being removed."
    ),
    "postgres.refuses": "PostgreSQL on %s refuses the cluster's own sessions: %s",
    "postgres.refuses.recommendation": (
        "Do not restart PostgreSQL on %s. On the active node, as another superuser, run ALTER ROLE"
        " postgres SUPERUSER LOGIN; the cluster then restores the rest."
    ),
    "postgres.refuses.tls.recommendation": (
        "Do not restart PostgreSQL on %s. Remove ssl, and whatever else was changed about TLS, from"
        " its postgresql.auto.conf, and run pg_ctl reload on its data."
    ),
    "postgres.refuses.rules.recommendation": (
        "Undo the changes to pg_hba.conf on %s, and run pg_ctl reload on its data. The cluster"
        " writes this file itself."
    ),
    "postgres.refuses.full.recommendation": (
        "End sessions of superusers on %s: they occupy even the connections that are reserved for"
        " the cluster. Let applications log in as ordinary roles."
    ),
    "postgres.refuses.namespace.recommendation": (
        "Remove db_user_namespace from postgresql.auto.conf on %s, and run pg_ctl reload on its"
        " data."
    ),
    "postgres.refuses.hanging.recommendation": (
        "On %s, end the session that locks a system catalog: run kill -TERM on its process. If"
        " there is none, remove pre_auth_delay from postgresql.auto.conf and run pg_ctl reload on"
        " its data."
    ),
    "check.postgres.silent": "The settings of PostgreSQL could not be checked: %s",
    "postgres.not.rejoining": "PostgreSQL on %s cannot rejoin: %s",
    "postgres.not.rejoining.recommendation": (
        "Fix what PostgreSQL reports. If %s cannot be rewound, its data are copied again"
        " automatically."
    ),
    "postgres.not.starting": "PostgreSQL does not start on %s: %s",
    "postgres.not.starting.recommendation": (
        "Fix what PostgreSQL reports. If it refuses a setting in postgresql.auto.conf, remove that"
        " line from the file on %s. Or redeploy the node."
    ),
    "undeploy.not.renewable": (
        "An undeploy must change the passwords of the cluster's own roles, but %s does not permit"
        " it: %s"
    ),
}
