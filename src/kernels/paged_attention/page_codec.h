#pragma once
// A coded form of cache pages: how attention reads it, how it is made. Attention multiplies codes
// as they are where a codec has them in lines (code_lines.h); else it decodes one page of one kv
// head at a time and holds no more of the cache than that as f32.
//
// A codec may keep keys and values in another basis than the model's, the same for all pages of a
// sequence's slot: what that takes is the slot's side data. Scores are then products of queries in
// that basis with coded keys, and sums of coded values are brought back once a block of tokens.

#include <cstddef>
#include <cstdint>

namespace adze::kernels {

struct CodedPart;

enum class PagePart : uint8_t { kKey, kValue };

class PageCodec {
 public:
  virtual ~PageCodec() = default;

  virtual int64_t page_bytes() const = 0;
  virtual int64_t side_bytes() const { return 0; }
  // Whether side data that come from a file are such as make_side() writes: safe to decode with.
  virtual bool accepts_side(const std::byte* /*side*/) const { return true; }
  // Pages that stay raw until so many are complete; side data are then fixed from them.
  virtual int64_t first_pages() const { return 1; }

  // key, value [kv_heads, pages * 32, head_dim] of the first pages. side: side_bytes().
  virtual void make_side(const float* /*key*/, const float* /*value*/, std::byte* /*side*/) const {}
  // key, value [kv_heads, 32, head_dim] of page `number` of its slot. May write to the side what it
  // keeps of that page there.
  virtual bool writes_side(int64_t /*number*/) const { return false; }
  virtual void encode(const float* key,
                      const float* value,
                      int64_t number,
                      std::byte* side,
                      std::byte* page) const = 0;

  // In the codec's basis: keys [head_dim, 32], values [32, head_dim] of one kv head.
  virtual void decode_keys(const std::byte* page,
                           int64_t number,
                           const std::byte* side,
                           int64_t kv_head,
                           float* keys) const = 0;
  virtual void decode_values(const std::byte* page,
                             int64_t number,
                             const std::byte* side,
                             int64_t kv_head,
                             float* values) const = 0;
  // The same as codes; false: this page has to be decoded.
  virtual bool coded_part(const std::byte* /*page*/,
                          int64_t /*number*/,
                          const std::byte* /*side*/,
                          int64_t /*kv_head*/,
                          PagePart /*which*/,
                          CodedPart& /*part*/) const {
    return false;
  }

  // Whether the basis is another than the model's; if not, what follows is never called.
  virtual bool changes_keys() const { return false; }
  virtual bool changes_values() const { return false; }
  // query, result [rows, head_dim]: result · coded key = query · key.
  virtual void query_to_basis(const std::byte* /*side*/,
                              int64_t /*kv_head*/,
                              int64_t /*rows*/,
                              const float* /*query*/,
                              float* /*result*/) const {}
  // result [rows, head_dim] = the values of which `sums` are the coded ones.
  virtual void values_from_basis(const std::byte* /*side*/,
                                 int64_t /*kv_head*/,
                                 int64_t /*rows*/,
                                 const float* /*sums*/,
                                 float* /*result*/) const {}
  // keys [head_dim, 32] of which `coded` are the coded ones: for keys that have to be rotated, and
  // for packing anew.
  virtual void keys_from_basis(const std::byte* /*side*/,
                               int64_t /*kv_head*/,
                               const float* /*coded*/,
                               float* /*keys*/) const {}

  // Where a head's part of a page lies, for fetching it ahead.
  virtual const std::byte* address(const std::byte* page, int64_t kv_head, PagePart part) const = 0;
};

}  // namespace adze::kernels
