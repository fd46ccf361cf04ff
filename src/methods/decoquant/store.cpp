#include <fmt/format.h>

#include "core/error.h"
#include "methods/decoquant/decoquant.h"

namespace adze::methods::decoquant {

void DecoQuantOptions::validate() const {
  if (form != "plus" && form != "a" && form != "b") {
    throw core::InvalidOption("kv-store deco: form", form, "plus, a or b");
  }
  // Symmetric codes of 1 bit would all be 0.
  if (bits != 2 && bits != 3 && bits != 4 && bits != 8 && (bits != 1 || form != "plus")) {
    throw core::InvalidOption("kv-store deco: bits",
                              std::to_string(bits),
                              form == "plus" ? "1, 2, 3, 4 or 8" : "2, 3, 4 or 8 (form a or b)");
  }
  if (chunk < 2 || chunk > 64 || (chunk & (chunk - 1)) != 0) {
    throw core::InvalidOption(
        "kv-store deco: chunk", std::to_string(chunk), "2, 4, 8, 16, 32 or 64");
  }
}

kv::KvStorePtr make_store(const DecoQuantOptions& options, const kernels::AttentionShape& shape) {
  if (options.form == "plus") {
    return kv::make_coded_store(fmt::format("deco:bits={}", options.bits),
                                make_plus_codec(shape.kv_heads, shape.head_dim, options.bits),
                                shape);
  }
  const int64_t channels = shape.kv_heads * shape.head_dim;
  if (options.form == "a" && channels % options.chunk != 0) {
    throw core::InvalidOption("kv-store deco: chunk",
                              std::to_string(options.chunk),
                              fmt::format("a power of two that divides {} channels", channels));
  }
  return kv::make_coded_store(
      options.form == "a" ? fmt::format("deco:bits={},form=a,chunk={}", options.bits, options.chunk)
                          : fmt::format("deco:bits={},form=b", options.bits),
      make_paper_codec(
          shape.kv_heads, shape.head_dim, options.bits, options.form == "b", options.chunk),
      shape);
}

kv::StoreEntry store_entry() {
  return kv::make_store_entry<DecoQuantOptions>(
      "deco", "DecoQuant: 1 to 8 bits, channels of keys that matter get more", make_store);
}

}  // namespace adze::methods::decoquant
