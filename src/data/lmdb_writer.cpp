#include "data/lmdb_writer.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "crema/error.hpp"

namespace crema {

namespace fs = std::filesystem;

LmdbWriter::LmdbWriter(const std::string& path) : path_(path) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  partial_ = path_ + ".partial";
  Require(!fs::exists(path_), "the database ", path_, " exists already; remove it or choose another name");
  std::error_code ignored;
  fs::remove_all(partial_, ignored);  // of a run that was killed
  const bool made = mkdir(partial_.c_str(), 0744) == 0;
  Require(made, "the database folder ", partial_, " cannot be made: ", std::strerror(errno));
  try {
    Check(mdb_env_create(&env_));
    Check(mdb_env_open(env_, partial_.c_str(), MDB_NOSYNC, 0664));  // synced once, at the end
  } catch (...) {
    mdb_env_close(env_);
    fs::remove_all(partial_, ignored);
    throw;
  }
}

LmdbWriter::~LmdbWriter() {
  if (env_ == nullptr) return;
  mdb_env_close(env_);
  std::error_code ignored;
  fs::remove_all(partial_, ignored);
}

void LmdbWriter::Put(std::string key, std::string value) {
  constexpr size_t kLongestKey = 511, kRecordsOfACommit = 1000;
  if (key.size() > kLongestKey) key.resize(kLongestKey);
  pending_.emplace_back(std::move(key), std::move(value));
  if (pending_.size() == kRecordsOfACommit) Commit();
}

void LmdbWriter::Finish() {
  Commit();
  Check(mdb_env_sync(env_, 1));
  mdb_env_close(env_);
  env_ = nullptr;
  std::error_code error;
  fs::remove(partial_ + "/lock.mdb", error);
  fs::rename(partial_, path_, error);
  Require(!error, "the database folder ", partial_, " cannot be renamed to ", path_, ": ", error.message());
}

// The map, and with it the file, may grow to twice its size as often as it has to.
void LmdbWriter::Commit() {
  int code = TryCommit();
  while (code == MDB_MAP_FULL) {
    MDB_envinfo info;
    Check(mdb_env_info(env_, &info));
    Check(mdb_env_set_mapsize(env_, 2 * info.me_mapsize));
    code = TryCommit();
  }
  Check(code);
  pending_.clear();
}

int LmdbWriter::TryCommit() {
  MDB_txn* transaction = nullptr;
  int code = mdb_txn_begin(env_, nullptr, 0, &transaction);
  if (code != MDB_SUCCESS) return code;
  MDB_dbi db = 0;
  code = mdb_dbi_open(transaction, nullptr, 0, &db);
  for (auto& [key, value] : pending_) {
    if (code != MDB_SUCCESS) break;
    MDB_val k{key.size(), key.data()}, v{value.size(), value.data()};
    // Keys that come in their order fill the pages; others (from number 100,000,000 on) go to their place.
    code = mdb_put(transaction, db, &k, &v, MDB_APPEND);
    if (code == MDB_KEYEXIST) code = mdb_put(transaction, db, &k, &v, MDB_NOOVERWRITE);
  }
  if (code == MDB_SUCCESS) return mdb_txn_commit(transaction);
  mdb_txn_abort(transaction);
  return code;
}

void LmdbWriter::Check(int code) const {
  Require(code == MDB_SUCCESS, "the database ", path_, " cannot be written: ", mdb_strerror(code));
}

}  // namespace crema
