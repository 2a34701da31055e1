// The images of a list of pairs or of a pair database: a list's files, or the records 2k and 2k + 1 of an
// LMDB for pair k, both with the label 1 (the same person) or 0. For the tools evaluate and convert_pairs.
#pragma once

#include <lmdb.h>

#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

#include <opencv2/imgcodecs.hpp>

#include "crema.pb.h"
#include "crema/data.hpp"
#include "crema/eval.hpp"
#include "crema/io.hpp"

namespace crema {

struct PairImages {
  std::vector<FacePair> pairs;
  int64_t folds = 0;                 // of a list that has folds
  std::vector<std::string> names;    // files, or records of a database
  std::vector<std::string> encoded;  // of a database: the images themselves

  size_t images() const { return names.size(); }
  const std::string& Name(size_t index) const { return names[index]; }
  std::string Bytes(size_t index) const { return encoded.empty() ? ReadFile(names[index]) : encoded[index]; }
};

// An LMDB environment and one transaction on it, closed in order.
class LmdbTransaction {
 public:
  LmdbTransaction(const std::string& path, unsigned flags, size_t map_size) : path_(path) {
    Check(mdb_env_create(&env_));
    if (map_size > 0) Check(mdb_env_set_mapsize(env_, map_size));
    Check(mdb_env_open(env_, path.c_str(), flags | MDB_NOTLS, 0664));
    Check(mdb_txn_begin(env_, nullptr, flags & MDB_RDONLY, &transaction_));
    Check(mdb_dbi_open(transaction_, nullptr, 0, &db_));
  }
  ~LmdbTransaction() {
    if (transaction_ != nullptr) mdb_txn_abort(transaction_);
    if (env_ != nullptr) mdb_env_close(env_);
  }
  LmdbTransaction(const LmdbTransaction&) = delete;

  void Put(const std::string& key, const std::string& value) {
    MDB_val k{key.size(), const_cast<char*>(key.data())}, v{value.size(), const_cast<char*>(value.data())};
    Check(mdb_put(transaction_, db_, &k, &v, MDB_NOOVERWRITE));
  }
  void Commit() {
    MDB_txn* transaction = transaction_;
    transaction_ = nullptr;  // freed by the commit, whatever comes of it
    Check(mdb_txn_commit(transaction));
    Check(mdb_env_sync(env_, 1));
  }
  // visit(key, value) in the order of the keys.
  template <class F>
  void ForEachRecord(const F& visit) {
    MDB_cursor* cursor = nullptr;
    Check(mdb_cursor_open(transaction_, db_, &cursor));
    const std::unique_ptr<MDB_cursor, void (*)(MDB_cursor*)> closer(cursor, mdb_cursor_close);
    MDB_val k, v;
    int code = MDB_SUCCESS;
    for (bool first = true;
         (code = mdb_cursor_get(cursor, &k, &v, first ? MDB_FIRST : MDB_NEXT)) == MDB_SUCCESS; first = false)
      visit(std::string(static_cast<char*>(k.mv_data), k.mv_size),
            std::string(static_cast<char*>(v.mv_data), v.mv_size));
    if (code != MDB_NOTFOUND) Check(code);
  }

 private:
  // The destructor does not run where the constructor throws.
  void Check(int code) {
    if (code == MDB_SUCCESS) return;
    if (transaction_ != nullptr) mdb_txn_abort(std::exchange(transaction_, nullptr));
    if (env_ != nullptr) mdb_env_close(std::exchange(env_, nullptr));
    Fail("the database ", path_, ": ", mdb_strerror(code), ".");
  }

  std::string path_;
  MDB_env* env_ = nullptr;
  MDB_txn* transaction_ = nullptr;
  MDB_dbi db_ = 0;
};

namespace pair_images_detail {

// The image of a record, as JPEG or PNG bytes.
inline std::string EncodedImage(const Datum& datum, const std::string& where) {
  if (datum.encoded()) return datum.data();
  const int64_t channels = datum.channels(), height = datum.height(), width = datum.width();
  Require((channels == 1 || channels == 3) && height > 0 && width > 0 &&
              static_cast<int64_t>(datum.data().size()) == channels * height * width,
          where, " has ", datum.data().size(), " bytes for an image of ", channels, "x", height, "x", width,
          " where an encoded image or the pixels of 1 or 3 channels were expected.");
  cv::Mat image(static_cast<int>(height), static_cast<int>(width), channels == 3 ? CV_8UC3 : CV_8UC1);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < height * width; ++i)
      image.data[i * channels + c] =
          static_cast<uint8_t>(datum.data()[static_cast<size_t>(c * height * width + i)]);
  std::vector<uint8_t> bytes;
  Require(cv::imencode(".png", image, bytes), where, " cannot be encoded as PNG.");
  return {bytes.begin(), bytes.end()};
}

inline PairImages ReadDatabase(const std::string& path) {
  Require(FileExists(path + "/data.mdb"), "the pairs ", path,
          " are a folder without a data.mdb; expected an LMDB or a list.");
  OpenLmdb(path, Color::kAsStored);  // throws where it is cut; LMDB alone would end the process there
  PairImages out;
  std::unordered_map<std::string, int64_t> known;  // image to number
  int64_t record = 0, label_before = 0;
  LmdbTransaction database(path, MDB_RDONLY | MDB_NOLOCK, 0);  // without locks it may be on a read-only disk
  database.ForEachRecord([&](const std::string& key, const std::string& value) {
    const std::string where = Concat("record '", key, "' of ", path);
    Datum datum;
    Require(datum.ParseFromString(value), where, " is not a Datum.");
    Require(datum.label() == 0 || datum.label() == 1, where, " has the label ", datum.label(),
            " where 1 (the same person) or 0 was expected; convert_pairs makes pair databases.");
    const std::string image = EncodedImage(datum, where);
    const auto [entry, is_new] = known.emplace(image, static_cast<int64_t>(out.names.size()));
    if (is_new) {
      out.names.push_back(where);
      out.encoded.push_back(image);
    }
    if (record % 2 == 0) {
      out.pairs.push_back({entry->second, 0, datum.label() == 1, -1});
    } else {
      Require(datum.label() == label_before, where, " has the label ", datum.label(),
              " and the record before it ", label_before,
              " where both images of a pair should have the same.");
      out.pairs.back().second = entry->second;
    }
    label_before = datum.label();
    ++record;
  });
  Require(record > 0 && record % 2 == 0, "the pair database ", path, " has ", record,
          " records where an even number, and at least two, were expected.");
  return out;
}

}  // namespace pair_images_detail

// Throws Error where a list or a database does not hold pairs, naming the line or the record.
inline PairImages ReadPairImages(const std::string& pairs, const std::string& root) {
  Require(FileExists(pairs), "there is no ", pairs, "; expected a list or a database of pairs.");
  if (std::filesystem::is_directory(pairs)) return pair_images_detail::ReadDatabase(pairs);
  PairList list = ReadPairList(pairs, root);
  return {std::move(list.pairs), list.folds, std::move(list.images), {}};
}

}  // namespace crema
