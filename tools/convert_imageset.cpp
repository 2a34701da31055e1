// Turns a list of images ("path label" lines) into an LMDB of Datum messages, as Caffe's tool of this name
// does, on all processors.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <optional>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "crema.pb.h"
#include "crema/io.hpp"
#include "crema/permutation.hpp"
#include "data/decode.hpp"
#include "data/image_list.hpp"
#include "data/lmdb_writer.hpp"
#include "data/prefetch.hpp"
#include "tool.hpp"

DEFINE_bool(gray, false, "Read the images as grey ones.");
DEFINE_bool(shuffle, false, "Write the records in a random order.");
DEFINE_int64(seed, 0, "Key of the random order.");
DEFINE_string(backend, "lmdb", "Format of the database; lmdb is the only one.");
DEFINE_int32(resize_width, 0, "Width the images are resized to.");
DEFINE_int32(resize_height, 0, "Height the images are resized to.");
DEFINE_bool(check_size, false, "Stop where an image has another size than the first one.");
DEFINE_bool(encoded, false,
            "Write encoded images instead of pixels: the files' own bytes where nothing changes.");
DEFINE_string(encode_type, "", "Encode the images in this format ('png', 'jpg', ...); implies --encoded.");

namespace {

using namespace crema;

// What becomes of a line of the list.
struct Record {
  std::string key, value;  // empty: the image could not be read
  cv::Size size;
};

std::string Lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// "jpg" of "a/b.JPG".
std::string ExtensionOf(const std::string& path) {
  const std::string extension = std::filesystem::path(path).extension().string();
  return extension.empty() ? "" : Lower(extension.substr(1));
}

bool IsSameFormat(const std::string& a, const std::string& b) {
  const auto canonical = [](const std::string& name) { return name == "jpeg" ? "jpg" : name; };
  return canonical(a) == canonical(b);
}

// Raw pixels in the order C, H, W.
void SetPixels(const cv::Mat& image, Datum* datum) {
  const int channels = image.channels();
  datum->set_channels(channels);
  datum->set_height(image.rows);
  datum->set_width(image.cols);
  datum->set_encoded(false);
  std::string& data = *datum->mutable_data();
  data.resize(image.total() * image.elemSize());
  size_t at = 0;
  for (int c = 0; c < channels; ++c)
    for (int y = 0; y < image.rows; ++y)
      for (int x = 0; x < image.cols; ++x)
        data[at++] = static_cast<char>(image.ptr<uint8_t>(y)[x * channels + c]);
}

class Converter {
 public:
  Converter(const std::string& root, const ImageList& list)
      : root_(root), list_(list), order_(Key(), list.size()) {}

  // Record number `index`, which keeps its number where others cannot be read.
  void Make(int64_t index, Record* record) const {
    const int64_t entry = EntryOf(index);
    const std::string path = list_.path(entry), file = UnderRoot(root_, path);
    *record = {};
    std::string bytes;
    try {
      bytes = ReadFile(file);
    } catch (const Error&) {
      return;
    }
    cv::Mat image = DecodeImage(bytes.data(), bytes.size(), FLAGS_gray ? Color::kGray : Color::kColor);
    if (image.empty()) return;
    const cv::Size wanted(FLAGS_resize_width, FLAGS_resize_height);
    const bool resize = wanted.area() > 0 && image.size() != wanted;
    if (resize) cv::resize(image, image, wanted);
    record->size = image.size();
    Datum datum;
    if (FLAGS_encoded || !FLAGS_encode_type.empty()) {
      SetEncoded(file, image, resize, &bytes, &datum);
    } else {
      SetPixels(image, &datum);
    }
    SetLabel(entry, &datum);
    std::string number = std::to_string(index);
    if (number.size() < 8) number.insert(0, 8 - number.size(), '0');
    record->key = number + "_" + path;
    record->value = datum.SerializeAsString();
  }

  int64_t EntryOf(int64_t index) const { return FLAGS_shuffle ? order_(index) : index; }

  std::string Describe(int64_t index) const {
    const int64_t entry = EntryOf(index);
    return Concat("line ", list_.line(entry), " of ", list_.file(), ": ",
                  UnderRoot(root_, list_.path(entry)));
  }

 private:
  static uint64_t Key() { return static_cast<uint64_t>(FLAGS_seed); }

  void SetLabel(int64_t entry, Datum* datum) const {
    const int64_t label = list_.label(entry);
    Require(label >= INT32_MIN && label <= INT32_MAX, "line ", list_.line(entry), " of ", list_.file(),
            " has the label ", label, ", which a Datum cannot hold; expected at most ", INT32_MAX);
    datum->set_label(static_cast<int32_t>(label));
  }

  // The file's own bytes where neither size, colours nor format change.
  static void SetEncoded(const std::string& file, const cv::Mat& image, bool resize, std::string* bytes,
                         Datum* datum) {
    const std::string found = ExtensionOf(file);
    const std::string wanted = FLAGS_encode_type.empty() ? found : Lower(FLAGS_encode_type);
    datum->set_encoded(true);
    if (!resize && !FLAGS_gray && IsSameFormat(found, wanted)) {
      datum->set_data(std::move(*bytes));
      return;
    }
    std::vector<uint8_t> encoded;
    try {
      cv::imencode("." + wanted, image, encoded);
    } catch (const cv::Exception&) {
      Fail("the image ", file, " cannot be encoded as '", wanted,
           "'; expected a format that OpenCV writes, such as --encode_type=png");
    }
    datum->set_data(encoded.data(), encoded.size());
  }

  std::string root_;
  const ImageList& list_;
  Permutation order_;
};

// A line of progress every few seconds.
class Progress {
 public:
  explicit Progress(int64_t total) : total_(total) {}
  void Show(int64_t done) {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::seconds(2);
    const double seconds = std::chrono::duration<double>(now - began_).count();
    LOG(INFO) << "Processed " << done << " files (" << 100 * done / total_ << " %, "
              << static_cast<int64_t>(static_cast<double>(done) / seconds) << " images/s).";
  }

 private:
  int64_t total_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point next_ = began_ + std::chrono::seconds(2);
};

void CheckFlags() {
  const std::string backend = Lower(FLAGS_backend);
  Require(backend != "leveldb",
          "LevelDB databases are not written here; expected --backend=lmdb, with backend: LMDB in the data "
          "layer");
  Require(backend == "lmdb", "--backend is '", FLAGS_backend, "' where lmdb was expected");
  Require(FLAGS_resize_width >= 0 && FLAGS_resize_height >= 0 &&
              (FLAGS_resize_width > 0) == (FLAGS_resize_height > 0),
          "--resize_width is ", FLAGS_resize_width, " and --resize_height ", FLAGS_resize_height,
          "; expected both or neither to be positive");
}

int Run(const std::string& root, const std::string& list_file, const std::string& path) {
  CheckFlags();
  const ImageList list(list_file);
  const Converter converter(root, list);
  LmdbWriter writer(path);
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  cv::setNumThreads(1);
  Prefetch<Record> records([&](int64_t index, Record* record) { converter.Make(index, record); }, threads,
                           64 * threads, list.size());
  LOG(INFO) << "A total of " << list.size() << " images" << (FLAGS_shuffle ? ", shuffled." : ".");
  Progress progress(list.size());
  int64_t written = 0;
  std::optional<cv::Size> first_size;
  for (int64_t index = 0; index < list.size(); ++index) {
    Record& record = records.Get(index);
    progress.Show(index);
    if (record.value.empty()) {
      LOG(WARNING) << "Cannot read " << converter.Describe(index);
      continue;
    }
    if (!first_size) first_size = record.size;
    Require(!FLAGS_check_size || record.size == *first_size, converter.Describe(index), " is ",
            record.size.width, "x", record.size.height, " where ", first_size->width, "x", first_size->height,
            ", the size of the first image, was expected");
    writer.Put(std::move(record.key), std::move(record.value));
    ++written;
  }
  Require(written > 0, "none of the ", list.size(), " images of ", list_file, " can be read; the first is ",
          UnderRoot(root, list.path(0)));
  writer.Finish();
  LOG(INFO) << "Processed " << list.size() << " files.";
  LOG(INFO) << "Wrote " << written << " records to " << path << "; " << list.size() - written
            << " images could not be read.";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  StartTool(&argc, &argv, "convert_imageset [FLAGS] ROOT/ LIST DB");
  if (argc != 4)
    return UsageError(
        "convert_imageset",
        Concat("found ", argc - 1, " arguments where a folder, a list and a database were expected"));
  return RunTool("convert_imageset", nullptr, [&] { return Run(argv[1], argv[2], argv[3]); });
}
