//! Holds the database's write lock, as another process with a long transaction would.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};

use super::Database;

/// An open transaction that blocks all other writes.
pub(crate) struct WriteLock {
    transaction: DatabaseTransaction,
    db: DatabaseConnection,
}

/// Takes the write lock; it is held until released.
pub(crate) async fn lock_writes(database: &Database) -> WriteLock {
    let db = database.connect().await;
    let sqlite = db.get_database_backend() == DbBackend::Sqlite;
    let options = TransactionOptions {
        sqlite_transaction_mode: sqlite.then_some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let transaction = db.begin_with_options(options).await.expect("begins");
    if !sqlite {
        let sql = "UPDATE directory SET oldest_revision = oldest_revision";
        transaction.execute_unprepared(sql).await.expect("held");
    }
    WriteLock { transaction, db }
}

impl WriteLock {
    pub(crate) async fn release(self) {
        self.transaction.rollback().await.expect("rolled back");
        self.db.close().await.expect("closes");
    }
}
