"""Small tokenizers of the published kinds, trained here: 160 entries, special tokens included.

Byte-level BPE with the pre-tokenizers of GPT-2, Llama 3 and Qwen2, and WordPiece as of BERT. Bytes
outside ASCII have no entry, so that such characters vanish, as in published small vocabularies.
"""

import string

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizerFast, PreTrainedTokenizerFast

VOCAB = 160
SPECIAL = ["<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"]  # ids 0 to 4
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message.role + '|>' + message.content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# The expression of Llama 3; that of Qwen2 takes digits one by one.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DIGITS = {"llama3": r"\p{N}{1,3}", "qwen2": r"\p{N}"}


def byte_level_bpe(style: str, texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    if style == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        expression = Regex(WORDS.replace("DIGITS", DIGITS[style]))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(expression, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
    if style == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    # Space and line break as the byte-level alphabet spells them.
    letters = list(string.ascii_letters + string.digits + string.punctuation) + ["\u0120", "\u010a"]
    ascii_texts = [text.encode("ascii", "ignore").decode() for text in texts]
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=letters,
                                  limit_alphabet=len(letters), show_progress=False)
    tokenizer.train_from_iterator(ascii_texts, trainer)
    if style == "llama3":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[2],
        additional_special_tokens=SPECIAL[3:], chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False)


def word_piece(texts: list[str]) -> BertTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=BERT_SPECIAL,
                                        limit_alphabet=60, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.decoder = decoders.WordPiece()
    return BertTokenizerFast(tokenizer_object=tokenizer)


def tiny_tokenizer(model_type: str, texts: list[str]):
    if model_type == "bert":
        return word_piece(texts)
    style = {"qwen2": "qwen2", "qwen3": "qwen2", "phi3": "gpt2"}.get(model_type, "llama3")
    return byte_level_bpe(style, texts)
