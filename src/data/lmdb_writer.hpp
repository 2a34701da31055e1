// Floor 3, the data wing. Writes a new LMDB. Called by tools and tests.
#pragma once

#include <lmdb.h>

#include <string>
#include <utility>
#include <vector>

namespace crema {

// The database is made in the folder "PATH.partial" and renamed when it is whole; a failure removes the
// folder.
class LmdbWriter {
 public:
  // Throws Error where `path` exists.
  explicit LmdbWriter(const std::string& path);
  ~LmdbWriter();
  LmdbWriter(const LmdbWriter&) = delete;

  // Keys are cut to LMDB's limit of 511 bytes. Records reach the disk in transactions of 1,000.
  void Put(std::string key, std::string value);
  // Writes what is left and renames the folder. Nothing but the destructor may be called afterwards.
  void Finish();

 private:
  void Commit();
  int TryCommit();  // LMDB's code
  void Check(int code) const;

  std::string path_, partial_;
  MDB_env* env_ = nullptr;
  std::vector<std::pair<std::string, std::string>> pending_;
};

}  // namespace crema
