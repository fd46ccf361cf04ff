// Pages of plain floats: f32 and f16, raw and sealed.

#include <vector>

#include "core/check.h"
#include "kv/kv_store.h"

namespace adze::kv {
namespace {

class PlainStore : public KvStore {
 public:
  PlainStore(kernels::PageType raw, kernels::PageType sealed, const kernels::AttentionShape& shape)
      : KvStore(shape), raw_type_(raw), sealed_type_(sealed) {}

  std::string name() const override { return std::string(kernels::page_type_name(sealed_type_)); }
  int64_t raw_page_bytes() const override {
    return kernels::attention_page_bytes(shape(), raw_type_);
  }
  int64_t sealed_page_bytes() const override {
    return kernels::attention_page_bytes(shape(), sealed_type_);
  }

  bool sealed_is_raw() const override { return raw_type_ == sealed_type_; }

  void attend(std::span<const SequenceRows> sequences,
              const kernels::KeyRotation& rotation) const override {
    static thread_local std::vector<const std::byte*> pointers;
    static thread_local std::vector<kernels::AttentionSequence> attention;
    pointers.clear();
    attention.clear();
    size_t needed = 0;
    for (const SequenceRows& rows : sequences) {
      needed += 2 * (rows.pages->sealed.size() + rows.pages->raw.size() +
                     static_cast<size_t>(rows.pages->first_raw));
    }
    pointers.reserve(needed);  // the kernel holds pointers into it
    for (const SequenceRows& rows : sequences) {
      const SlotPages& slot = *rows.pages;
      const std::byte* const* sealed = pointers.data() + pointers.size();
      for (const PageRef& page : slot.sealed) {
        pointers.push_back(page.data());
      }
      // By page number; pages before the first raw one are nobody's own in this step.
      const std::byte* const* own = pointers.data() + pointers.size();
      pointers.resize(pointers.size() + static_cast<size_t>(slot.first_raw), nullptr);
      for (const PageRef& page : slot.raw) {
        pointers.push_back(page.data());
      }
      attention.push_back(
          {.query = rows.query,
           .output = rows.output,
           .rows = rows.rows,
           .first_rank = slot.length - rows.rows,
           // An encoder's rows are all of one step: every page is somebody's own.
           .pages = rows.bidirectional ? own : sealed,
           .own_pages = own,
           .first_visible = rows.first_visible,
           .first_visible_head_stride = rows.first_visible_heads == 1 ? 0 : rows.rows,
           .bidirectional = rows.bidirectional});
    }
    kernels::paged_attention({.shape = shape(),
                              .page_type = sealed_type_,
                              .own_page_type = raw_type_,
                              .key_rotation = rotation},
                             attention);
  }

 protected:
  kernels::PageType raw_type() const override { return raw_type_; }
  PageRef seal(PagePool& pool, const PageRef& raw) const override {
    if (sealed_is_raw()) {
      return raw;
    }
    PageRef sealed = pool.allocate(sealed_page_bytes());
    const auto width = static_cast<size_t>(shape().kv_heads * shape().head_dim);
    std::vector<float> key(width * kPageTokens);
    std::vector<float> value(key.size());
    for (size_t index = 0; index < kPageTokens; ++index) {
      kernels::read_page_token(shape(),
                               raw_type_,
                               raw.data(),
                               static_cast<int64_t>(index),
                               key.data() + index * width,
                               value.data() + index * width);
    }
    kernels::write_page_tokens(
        shape(), sealed_type_, key.data(), value.data(), 0, kPageTokens, sealed.data());
    return sealed;
  }

  void read_sealed(const PageRef& page, int64_t index, float* key, float* value) const override {
    kernels::read_page_token(shape(), sealed_type_, page.data(), index, key, value);
  }

 private:
  kernels::PageType raw_type_;
  kernels::PageType sealed_type_;
};

}  // namespace

KvStorePtr make_plain_store(kernels::PageType type, const kernels::AttentionShape& shape) {
  return make_plain_store(type, type, shape);
}

KvStorePtr make_plain_store(kernels::PageType raw_type,
                            kernels::PageType sealed_type,
                            const kernels::AttentionShape& shape) {
  return std::make_shared<PlainStore>(raw_type, sealed_type, shape);
}

}  // namespace adze::kv
