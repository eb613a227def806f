//! Another process that writes to the same database, and takes its time.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};

use super::Database;

/// The database, held.
pub(crate) struct Hold {
    transaction: DatabaseTransaction,
    db: DatabaseConnection,
}

/// Begins to write, and goes on until released.
pub(crate) async fn hold(database: &Database) -> Hold {
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
    Hold { transaction, db }
}

impl Hold {
    pub(crate) async fn release(self) {
        self.transaction.rollback().await.expect("rolled back");
        self.db.close().await.expect("closes");
    }
}
