// Prints docs/layers.md: every layer type with its bottoms and tops, what line 1 of its file says of it, and
// its parameters with the comments of proto/crema.proto.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>

#include "crema/io.hpp"
#include "crema/layer.hpp"
#include "tool.hpp"

DEFINE_string(source, ".", "The source tree, with layers/.");
DEFINE_string(messages, "build/cpu/proto/crema.desc", "The messages with their comments, made by the build.");

namespace {

using namespace crema;
namespace pb = google::protobuf;

// One line of text, fit for a cell of a table.
std::string Cell(const std::string& text) {
  std::string cell;
  for (char c : text) {
    const bool space = std::isspace(static_cast<unsigned char>(c)) != 0;
    if (space && (cell.empty() || cell.back() == ' ')) continue;
    if (c == '|') cell += '\\';
    cell += space ? ' ' : c;
  }
  while (!cell.empty() && cell.back() == ' ') cell.pop_back();
  return cell;
}

template <class Descriptor>
std::string CommentOf(const Descriptor& described) {
  pb::SourceLocation location;
  if (!described.GetSourceLocation(&location)) return "";
  return Cell(location.leading_comments + " " + location.trailing_comments);
}

std::string TypeOf(const pb::FieldDescriptor& field) {
  std::string type = field.type_name();
  if (field.message_type() != nullptr) type = field.message_type()->name();
  if (field.enum_type() != nullptr) {
    type.clear();
    for (int k = 0; k < field.enum_type()->value_count(); ++k)
      type += (k ? ", " : "") + field.enum_type()->value(k)->name();
  }
  return field.is_repeated() ? "list of " + type : type;
}

std::string DefaultOf(const pb::FieldDescriptor& field) {
  if (!field.has_default_value()) return "";
  if (field.enum_type() != nullptr) return field.default_value_enum()->name();
  std::ostringstream out;
  switch (field.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      out << (field.default_value_bool() ? "true" : "false");
      break;
    case pb::FieldDescriptor::CPPTYPE_FLOAT:
      out << field.default_value_float();
      break;
    case pb::FieldDescriptor::CPPTYPE_INT32:
      out << field.default_value_int32();
      break;
    case pb::FieldDescriptor::CPPTYPE_UINT32:
      out << field.default_value_uint32();
      break;
    case pb::FieldDescriptor::CPPTYPE_INT64:
      out << field.default_value_int64();
      break;
    case pb::FieldDescriptor::CPPTYPE_STRING:
      out << '"' << field.default_value_string() << '"';
      break;
    default:
      Fail("field ", field.full_name(), " has a default of a type that layer_docs cannot print");
  }
  return out.str();
}

// A field's own comment and those of its enum's values.
std::string MeaningOf(const pb::FieldDescriptor& field) {
  std::string meaning = CommentOf(field);
  if (field.enum_type() == nullptr) return meaning;
  for (int k = 0; k < field.enum_type()->value_count(); ++k) {
    const std::string comment = CommentOf(*field.enum_type()->value(k));
    if (comment.empty()) continue;
    if (!meaning.empty() && std::string(".;:").find(meaning.back()) == std::string::npos) meaning += ".";
    meaning += (meaning.empty() ? "" : " ") + field.enum_type()->value(k)->name() + ": " + comment;
  }
  return meaning;
}

// A table of the fields whose numbers `is_shown` takes.
template <class IsShown>
void PrintFields(const pb::Descriptor& message, const IsShown& is_shown) {
  std::cout << "| field | type | default | meaning |\n|---|---|---|---|\n";
  for (int k = 0; k < message.field_count(); ++k) {
    const pb::FieldDescriptor& field = *message.field(k);
    if (!is_shown(field.number())) continue;
    std::cout << "| " << field.name() << " | " << TypeOf(field) << " | " << DefaultOf(field) << " | "
              << MeaningOf(field) << " |\n";
  }
}

void PrintMessage(const std::string& title, const pb::Descriptor& message) {
  const std::string comment = CommentOf(message);
  std::cout << "\n" << title << (comment.empty() ? "" : ": " + comment) << "\n\n";
  PrintFields(message, [](int) { return true; });
}

std::string Letters(std::string name) {  // without case and underscores
  name.erase(std::remove(name.begin(), name.end(), '_'), name.end());
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name;
}

// A sentence of its own: with a capital, unless it is a formula, and a full stop.
std::string Sentence(std::string text) {
  const auto is_letter = [&](size_t at) {
    return at < text.size() && std::isalpha(static_cast<unsigned char>(text[at])) != 0;
  };
  if (is_letter(0) && (is_letter(1) || text.rfind("a ", 0) == 0))
    text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text.empty() || text.back() == '.' ? text : text + ".";
}

// What the comment at the head of each file in layers/ says behind "// Type: ", by the type's letters.
std::map<std::string, std::string> HeadComments(const std::string& source) {
  std::map<std::string, std::string> comments;
  Require(std::filesystem::is_directory(source + "/layers"), "there is no folder layers in '", source, "'");
  for (const auto& entry : std::filesystem::directory_iterator(source + "/layers")) {
    if (entry.path().extension() != ".cpp") continue;
    std::ifstream in(entry.path());
    std::string comment;
    for (std::string line; std::getline(in, line) && line.rfind("//", 0) == 0;)
      comment += line.substr(2) + " ";
    comment = Cell(comment);
    const size_t colon = comment.find(": ");
    const std::string type = comment.substr(0, colon);
    Require(colon != std::string::npos && Letters(type) == Letters(entry.path().stem().string()),
            entry.path().string(), " begins with '", comment, "' where '// Type: what it does' was expected");
    comments[Letters(type)] = Sentence(comment.substr(colon + 2));
  }
  return comments;
}

std::string Count(int least, int most, const std::string& what) {
  std::string count = std::to_string(least);
  if (most < 0) count += " or more";
  if (most > least) count += " to " + std::to_string(most);
  return count + " " + what + (most == 1 ? "" : "s");
}

void PrintLayer(const LayerType& type, const std::string& comment, const pb::Descriptor& layer_parameter) {
  LayerParameter spec;
  spec.set_name(type.name);
  spec.set_type(type.name);
  const std::unique_ptr<Layer> layer = NewLayer(spec);
  const Layer::Arity arity = layer->arity();
  std::cout << "\n## " << type.name << "\n\n"
            << comment << "\n\nTakes " << Count(arity.min_bottom, arity.max_bottom, "bottom") << ", gives "
            << Count(arity.min_top, arity.max_top, "top") << "." << (layer->IsLoss() ? " A loss." : "")
            << "\n";
  for (const std::string& name : type.param_fields) {
    const pb::FieldDescriptor* field = layer_parameter.FindFieldByName(name);
    Require(field != nullptr, "layer type ", type.name, " names the field '", name,
            "', which LayerParameter does not have");
    PrintMessage("`" + name + "`", *field->message_type());
  }
}

void PrintPage(const pb::DescriptorPool& pool) {
  const pb::Descriptor* layer = pool.FindMessageTypeByName("crema.LayerParameter");
  Require(layer != nullptr, "'", FLAGS_messages, "' holds no message crema.LayerParameter");
  const std::map<std::string, std::string> comments = HeadComments(FLAGS_source);
  std::cout
      << "# Layers\n\nThe layer types by name. Types, fields and defaults that Caffe has mean what they "
         "mean there.\nThis page is printed by `layer_docs`: run it again after a change to a layer or to "
         "`proto/crema.proto`.\n\n## Every layer\n\n";
  PrintFields(*layer, [](int number) { return number < 100; });
  for (const char* shared : {"ParamSpec", "NetStateRule", "FillerParameter"})
    PrintMessage(std::string("`") + shared + "`",
                 *pool.FindMessageTypeByName(std::string("crema.") + shared));
  for (const LayerType* type : LayerTypes()) PrintLayer(*type, comments.at(Letters(type->name)), *layer);
}

int Print() {
  // The messages compiled into this program have lost their comments; the build keeps them in a file.
  pb::FileDescriptorSet files;
  ReadBinary(FLAGS_messages, &files);
  pb::DescriptorPool pool;
  for (const pb::FileDescriptorProto& file : files.file()) pool.BuildFile(file);
  PrintPage(pool);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  crema::StartTool(&argc, &argv, "layer_docs [--source=DIR] [--messages=FILE] > docs/layers.md");
  if (argc > 1) return crema::UsageError("layer_docs", "it takes flags only");
  return crema::RunTool("layer_docs", nullptr, Print);
}
