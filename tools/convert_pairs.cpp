// Turns a list of pairs into a pair database, an LMDB that the Data layer and evaluate read: the records 2k
// and 2k + 1 are the two images of pair k, as they are in their files or resized; the label of both is 1 (the
// same person) or 0.
#include <gflags/gflags.h>

#include <iostream>

#include <opencv2/imgproc.hpp>

#include "pair_images.hpp"
#include "tool.hpp"

DEFINE_string(root, "", "Folder of the images.");
DEFINE_int32(resize_height, 0,
             "Resize to this height where resize_width is given too; other images stay as they are.");
DEFINE_int32(resize_width, 0, "Resize to this width where resize_height is given too.");

namespace {

using namespace crema;

// The file's own bytes, or a PNG of it where it has another size than wanted.
std::string EncodedImage(const std::string& file) {
  const std::string found = ReadFile(file);
  const std::vector<char> bytes(found.begin(), found.end());
  const cv::Mat image = bytes.empty() ? cv::Mat() : cv::imdecode(bytes, cv::IMREAD_COLOR);
  Require(!image.empty(), "the image ", file, " cannot be decoded.");
  const cv::Size size(FLAGS_resize_width, FLAGS_resize_height);
  if (size.height == 0 || image.size() == size) return found;
  cv::Mat resized;
  cv::resize(image, resized, size);
  std::vector<uchar> png;
  cv::imencode(".png", resized, png);
  return {png.begin(), png.end()};
}

std::string Record(const std::string& file, bool same) {
  Datum datum;
  datum.set_data(EncodedImage(file));
  datum.set_label(same);
  datum.set_encoded(true);
  return datum.SerializeAsString();
}

// Keys as convert_imageset writes them: the record's number and the path.
std::string Key(int64_t index, const std::string& path) {
  std::string digits = std::to_string(index);
  if (digits.size() < 8) digits.insert(0, 8 - digits.size(), '0');
  return (digits + "_" + path).substr(0, 511);  // LMDB's limit
}

void WritePairs(const PairList& list, const std::string& path) {
  size_t bytes = 0;
  const size_t resized =
      4 * static_cast<size_t>(FLAGS_resize_height) * static_cast<size_t>(FLAGS_resize_width);
  for (const FacePair& pair : list.pairs)
    for (int64_t image : {pair.first, pair.second})
      bytes += std::max(resized, std::filesystem::file_size(list.images[static_cast<size_t>(image)])) +
               8192;  // page and overflow page
  LmdbTransaction db(path, 0, 2 * bytes + (size_t{16} << 20));
  int64_t index = 0;
  for (const FacePair& pair : list.pairs) {
    for (int64_t image : {pair.first, pair.second}) {
      const std::string& file = list.images[static_cast<size_t>(image)];
      db.Put(Key(index++, std::filesystem::path(file).lexically_relative(FLAGS_root).string()),
             Record(file, pair.same));
    }
  }
  db.Commit();
}

void Run(const std::string& list_path, const std::string& path) {
  Require((FLAGS_resize_height > 0) == (FLAGS_resize_width > 0) && FLAGS_resize_height >= 0,
          "--resize_height is ", FLAGS_resize_height, " and --resize_width ", FLAGS_resize_width,
          " where two positive sizes or none were expected.");
  Require(!FileExists(path), "the database ", path, " exists already.");
  const PairList list = ReadPairList(list_path, FLAGS_root);
  const std::string partial = path + ".partial";  // renamed when it is whole
  std::filesystem::remove_all(partial);
  MakeDirectories(partial);
  try {
    WritePairs(list, partial);
  } catch (...) {
    std::filesystem::remove_all(partial);
    throw;
  }
  std::filesystem::rename(partial, path);
  std::cout << "wrote " << list.pairs.size() << " pairs of " << list.images.size() << " images to " << path
            << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  gflags::SetUsageMessage("a list of pairs to an LMDB: convert_pairs --root=DIR LIST DB");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return RunTool("convert_pairs", nullptr, [&] {
    Require(argc == 3, "convert_pairs was given ", argc - 1,
            " arguments where a list and a database were expected.");
    Run(argv[1], argv[2]);
    return 0;
  });
}
