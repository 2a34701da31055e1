// The reader of Datum databases.
#include <lmdb.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "crema/data.hpp"
#include "data/decode.hpp"

namespace crema {
namespace {

namespace fs = std::filesystem;

std::string ToString(const MDB_val& value) {
  return {static_cast<const char*>(value.mv_data), value.mv_size};
}

// [C, H, W] to [H, W, C].
template <class From, class To>
void ChannelsLast(const From* from, const ImageSize& size, To* to) {
  const int64_t inner = size.height * size.width;
  for (int64_t c = 0; c < size.channels; ++c)
    for (int64_t s = 0; s < inner; ++s) to[s * size.channels + c] = static_cast<To>(from[c * inner + s]);
}

// A read transaction with a cursor. Without locks both are a few allocations.
class Cursor {
 public:
  Cursor(MDB_env* env, MDB_dbi db) {
    code_ = mdb_txn_begin(env, nullptr, MDB_RDONLY, &transaction_);
    if (code_ == MDB_SUCCESS) code_ = mdb_cursor_open(transaction_, db, &cursor_);
  }
  ~Cursor() {
    if (cursor_ != nullptr) mdb_cursor_close(cursor_);
    if (transaction_ != nullptr) mdb_txn_abort(transaction_);
  }
  Cursor(const Cursor&) = delete;

  // Moves as `operation` says; false at the end or after a failure, which code() tells.
  bool Move(MDB_cursor_op operation) {
    if (code_ == MDB_SUCCESS) code_ = mdb_cursor_get(cursor_, &key, &value, operation);
    return code_ == MDB_SUCCESS;
  }
  int code() const { return code_; }

  MDB_val key{0, nullptr}, value{0, nullptr};

 private:
  MDB_txn* transaction_ = nullptr;
  MDB_cursor* cursor_ = nullptr;
  int code_ = MDB_SUCCESS;
};

class LmdbDataset final : public Dataset {
 public:
  LmdbDataset(const std::string& path, Color color)
      : path_(path), color_(color), env_(nullptr, mdb_env_close) {
    const std::string file = path + "/data.mdb";
    Require(fs::exists(path), "there is no database ", path, "; expected an LMDB folder");
    Require(fs::is_directory(path), "the database ", path,
            " is a file where an LMDB folder with a data.mdb in it was expected");
    Require(fs::exists(file), "the database ", path, " has no data.mdb; expected an LMDB folder");
    const uint64_t bytes = fs::file_size(file);
    Require(bytes > 0, "the database ", file, " is an empty file");
    Open(file, bytes);
    IndexKeys(file);
  }

  int64_t size() const override { return size_; }

  std::string Describe(int64_t index) const override {
    Cursor cursor(env_.get(), db_);
    if (!MoveTo(index, &cursor)) return Concat("record number ", index, " of ", path_);
    return Describe(cursor.key);
  }

  void Read(int64_t index, Image* image) const override {
    Cursor cursor(env_.get(), db_);
    if (!MoveTo(index, &cursor))
      throw BadRecord(
          Concat("record number ", index, " of ", path_, " cannot be read: ", mdb_strerror(cursor.code())));
    Datum datum;
    if (!datum.ParseFromArray(cursor.value.mv_data, static_cast<int>(cursor.value.mv_size)))
      throw BadRecord(Concat(Describe(cursor.key), " is not a Datum"));
    image->label = datum.label();
    if (datum.encoded()) {
      ReadEncoded(datum, cursor.key, image);
    } else {
      ReadRaw(datum, cursor.key, image);
    }
  }

 private:
  // Every 16th key is kept; the others are reached from there.
  static constexpr int64_t kStride = 16;

  void Open(const std::string& file, uint64_t bytes) {
    MDB_env* env = nullptr;
    Check(mdb_env_create(&env), file);
    env_.reset(env);
    // LMDB reads a cut file's missing pages from beyond its end, which kills the process; so its size is
    // looked at before anything but the first pages is.
    constexpr uint64_t kMetaPages = 2 * 4096;
    Require(bytes >= kMetaPages, "the database ", file, " is truncated: it has ", bytes, " bytes");
    Check(mdb_env_open(env, path_.c_str(), MDB_RDONLY | MDB_NOTLS | MDB_NOLOCK, 0), file);
    MDB_envinfo info;
    MDB_stat stat;
    Check(mdb_env_info(env, &info), file);
    Check(mdb_env_stat(env, &stat), file);
    const uint64_t needed = (static_cast<uint64_t>(info.me_last_pgno) + 1) * stat.ms_psize;
    Require(bytes >= needed, "the database ", file, " is truncated: it has ", bytes,
            " bytes where its pages need ", needed);
    Require(stat.ms_entries > 0, "the database ", path_, " has no records");
    size_ = static_cast<int64_t>(stat.ms_entries);
  }

  void IndexKeys(const std::string& file) {
    MDB_txn* transaction = nullptr;
    Check(mdb_txn_begin(env_.get(), nullptr, MDB_RDONLY, &transaction), file);
    const int code = mdb_dbi_open(transaction, nullptr, 0, &db_);
    Check(code != MDB_SUCCESS ? (mdb_txn_abort(transaction), code) : mdb_txn_commit(transaction), file);
    Cursor cursor(env_.get(), db_);
    int64_t found = 0;
    for (; cursor.Move(found == 0 ? MDB_FIRST : MDB_NEXT); ++found) {
      if (found % kStride != 0) continue;
      key_begin_.push_back(keys_.size());
      keys_.append(static_cast<const char*>(cursor.key.mv_data), cursor.key.mv_size);
    }
    key_begin_.push_back(keys_.size());
    if (cursor.code() != MDB_NOTFOUND) Check(cursor.code(), file);
    Require(found == size_, "the database ", file, " is damaged: it has ", found, " records where ", size_,
            " were expected");
  }

  bool MoveTo(int64_t index, Cursor* cursor) const {
    const size_t kept = static_cast<size_t>(index / kStride);
    const size_t begin = key_begin_[kept], end = key_begin_[kept + 1];
    cursor->key = {end - begin, const_cast<char*>(keys_.data() + begin)};
    bool good = cursor->Move(MDB_SET_KEY);
    for (int64_t k = index % kStride; good && k > 0; --k) good = cursor->Move(MDB_NEXT);
    return good;
  }

  void ReadEncoded(const Datum& datum, const MDB_val& key, Image* image) const {
    const cv::Mat pixels = DecodeImage(datum.data().data(), datum.data().size(), color_);
    if (pixels.empty())
      throw BadRecord(Concat(Describe(key), " cannot be decoded: its ", datum.data().size(),
                             " bytes are no whole image"));
    TakePixels(pixels, image);
  }

  void ReadRaw(const Datum& datum, const MDB_val& key, Image* image) const {
    const bool bytes = !datum.data().empty();
    image->size = {datum.channels(), datum.height(), datum.width()};
    const int64_t found = bytes ? static_cast<int64_t>(datum.data().size()) : datum.float_data_size();
    if (found == 0) throw BadRecord(Concat(Describe(key), " has neither pixels nor numbers in it"));
    const bool positive = image->size.channels > 0 && image->size.height > 0 && image->size.width > 0;
    if (!positive || found != image->size.count())
      throw BadRecord(Concat(Describe(key), " has ", found, bytes ? " bytes" : " numbers",
                             " where an image of ", crema::ToString(image->size), " was expected"));
    image->pixels.resize(bytes ? static_cast<size_t>(found) : 0);
    image->numbers.resize(bytes ? 0 : static_cast<size_t>(found));
    if (bytes) {
      ChannelsLast(reinterpret_cast<const uint8_t*>(datum.data().data()), image->size, image->pixels.data());
    } else {
      ChannelsLast(datum.float_data().data(), image->size, image->numbers.data());
    }
  }

  std::string Describe(const MDB_val& key) const { return Concat("record '", ToString(key), "' of ", path_); }

  static void Check(int code, const std::string& file) {
    Require(code != MDB_INVALID && code != MDB_VERSION_MISMATCH, "the file ", file,
            " is not an LMDB database");
    Require(code == MDB_SUCCESS, "the database ", file, " cannot be read: ", mdb_strerror(code));
  }

  std::string path_;
  Color color_;
  std::unique_ptr<MDB_env, void (*)(MDB_env*)> env_;
  MDB_dbi db_ = 0;
  int64_t size_ = 0;
  std::string keys_;               // one after another
  std::vector<size_t> key_begin_;  // of each, and where the last one ends
};

}  // namespace

std::shared_ptr<const Dataset> OpenLmdb(const std::string& path, Color color) {
  return std::make_shared<LmdbDataset>(path, color);
}

}  // namespace crema
