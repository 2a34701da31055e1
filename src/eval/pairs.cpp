#include <charconv>
#include <fstream>
#include <map>

#include "crema/eval.hpp"
#include "crema/io.hpp"

namespace crema {
namespace {

using Words = std::vector<std::string>;

// Blanks separate, or tabs alone where the line has one.
Words Split(const std::string& line) {
  const char* separators = line.find('\t') == std::string::npos ? " \r" : "\t\r";
  Words words;
  size_t begin = line.find_first_not_of(separators);
  while (begin != std::string::npos) {
    size_t end = line.find_first_of(separators, begin);
    words.push_back(line.substr(begin, end - begin));
    begin = line.find_first_not_of(separators, end);
  }
  return words;
}

std::optional<int64_t> Number(const std::string& word) {
  int64_t number = 0;
  auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc() || end != word.data() + word.size() || number < 0) return std::nullopt;
  return number;
}

class Reader {
 public:
  Reader(const std::string& list, const std::string& root) : list_(list), root_(root) {
    if (!root_.empty() && root_.back() != '/') root_ += '/';
  }

  PairList Read() {
    std::ifstream file(list_);
    Require(file.is_open(), "the list of pairs ", list_, " cannot be opened");
    std::string text;
    bool first = true;
    while (std::getline(file, text)) {
      ++line_;
      Words words = Split(text);
      if (words.empty()) continue;
      if (!(first && ReadHeader(words))) ReadPair(words);
      first = false;
    }
    Require(!out_.pairs.empty(), "the list of pairs ", list_, " has no pairs");
    if (lfw_) CheckLength();
    return std::move(out_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void FailHere(const Parts&... parts) const {
    Fail("line ", line_, " of ", list_, ": ", Concat(parts...));
  }

  // "folds n" or "n".
  bool ReadHeader(const Words& words) {
    if (words.size() > 2) return false;
    Words numbers = words;
    for (const std::string& word : numbers)
      if (!Number(word)) return false;
    lfw_ = true;
    out_.folds = words.size() == 2 ? *Number(words[0]) : 0;
    per_fold_ = *Number(words.back());
    if (per_fold_ == 0 || (words.size() == 2 && out_.folds == 0))
      FailHere("the header's numbers must be positive");
    return true;
  }

  void ReadPair(const Words& words) {
    FacePair pair;
    if (lfw_) {
      ReadLfw(words, &pair);
    } else {
      ReadPlain(words, &pair);
    }
    out_.pairs.push_back(pair);
  }

  void ReadLfw(const Words& words, FacePair* pair) {
    if (words.size() != 3 && words.size() != 4)
      FailHere("found ", words.size(), " columns where \"Name i j\" or \"Name1 i Name2 j\" was expected");
    pair->same = words.size() == 3;
    const int64_t position = static_cast<int64_t>(out_.pairs.size());
    const bool expect_same = position % (2 * per_fold_) < per_fold_;
    if (pair->same != expect_same) {
      FailHere("found a pair of ", pair->same ? "the same person" : "different people", " where the header, ",
               per_fold_, " same and then ", per_fold_, " different pairs", out_.folds ? " per fold" : "",
               ", puts one of ", expect_same ? "the same person" : "different people");
    }
    if (out_.folds) pair->fold = position / (2 * per_fold_);
    pair->first = LfwImage(words[0], words[1]);
    pair->second = pair->same ? LfwImage(words[0], words[2]) : LfwImage(words[2], words[3]);
  }

  void ReadPlain(const Words& words, FacePair* pair) {
    if (words.size() != 3 || (words[2] != "0" && words[2] != "1"))
      FailHere("expected two image paths and 1 (same person) or 0, found ", words.size(), " columns",
               words.size() == 3 ? Concat(", the last being '", words[2], "'") : "");
    pair->same = words[2] == "1";
    pair->first = PlainImage(words[0]);
    pair->second = PlainImage(words[1]);
  }

  int64_t LfwImage(const std::string& name, const std::string& number) {
    std::optional<int64_t> index = Number(number);
    if (!index) FailHere("found '", number, "' where the number of an image of ", name, " was expected");
    std::string digits = std::to_string(*index);
    if (digits.size() < 4) digits.insert(0, 4 - digits.size(), '0');
    const std::string stem = root_ + name + "/" + name + "_" + digits;
    for (const char* extension : {".jpg", ".png", ".jpeg"})
      if (std::optional<int64_t> image = Image(stem + extension)) return *image;
    FailHere("there is no image ", stem, ".jpg (nor .png, nor .jpeg)");
  }

  int64_t PlainImage(const std::string& path) {
    std::optional<int64_t> image = Image(root_ + path);
    if (!image) FailHere("there is no image ", root_, path);
    return *image;
  }

  // The number of an image, or nothing where there is no such file.
  std::optional<int64_t> Image(const std::string& path) {
    if (auto known = index_.find(path); known != index_.end()) return known->second;
    if (!FileExists(path)) return std::nullopt;
    const int64_t index = static_cast<int64_t>(out_.images.size());
    index_[path] = index;
    out_.images.push_back(path);
    return index;
  }

  void CheckLength() const {
    const int64_t expected = (out_.folds ? out_.folds : 1) * 2 * per_fold_;
    const int64_t found = static_cast<int64_t>(out_.pairs.size());
    Require(found == expected, "the list of pairs ", list_, " has ", found,
            " pairs, but its header promises ", expected);
  }

  std::string list_, root_;
  int64_t line_ = 0;
  bool lfw_ = false;
  int64_t per_fold_ = 0;
  std::map<std::string, int64_t> index_;
  PairList out_;
};

// Run of `position` when `count` items are cut into `folds` runs, the first count % folds of them one longer.
int64_t FoldOf(int64_t position, int64_t count, int64_t folds) {
  const int64_t length = count / folds, longer = count % folds;
  if (position < longer * (length + 1)) return position / (length + 1);
  return longer + (position - longer * (length + 1)) / length;
}

}  // namespace

PairList ReadPairList(const std::string& list, const std::string& root) {
  return Reader(list, root).Read();
}

std::vector<int64_t> MakeFolds(const std::vector<uint8_t>& same, int64_t folds) {
  Require(folds >= 1, "the number of folds is ", folds, " where at least 1 was expected");
  Require(folds <= static_cast<int64_t>(same.size()), "the number of folds is ", folds,
          ", but there are only ", same.size(), " pairs");
  int64_t count[2] = {0, 0}, seen[2] = {0, 0};
  for (uint8_t kind : same) ++count[kind != 0];
  std::vector<int64_t> fold(same.size());
  for (size_t i = 0; i < same.size(); ++i) {
    // Longer runs come first for same pairs and last for different ones, so that few pairs leave no fold
    // empty.
    fold[i] = same[i] ? FoldOf(seen[1]++, count[1], folds)
                      : folds - 1 - FoldOf(count[0] - 1 - seen[0]++, count[0], folds);
  }
  return fold;
}

}  // namespace crema
