"""YAML in PyYAML's safe subset: for people's eyes and foreign tools, slow.

Owns: YamlCodec.  May import: kernel; PyYAML (extra `yaml`).
"""

from __future__ import annotations

from typing import Any

from celeriac.kernel.errors import DecodeError, EncodeError, ImproperlyConfigured

try:
    import yaml as _yaml
except ImportError:
    raise ImproperlyConfigured(
        "the yaml serializer needs PyYAML: pip install 'celeriac[yaml]'"
    ) from None

_MAX_NODES = 1_000_000


class YamlCodec:
    """Carries dates, bytes and sets beside JSON's types; tuples come back as lists."""

    name = "yaml"
    content_type = "application/x-yaml"
    content_encoding = "utf-8"
    trusted_only = False

    def dumps(self, value: object) -> bytes:
        """Encode.

        :raises EncodeError: the safe subset of YAML does not carry it unchanged.
        """
        try:
            data: bytes = _yaml.safe_dump(_listed(value), encoding="utf-8")
            # PyYAML changes some texts and times in silence: it is slow anyway, so look.
            if not _same(value, _yaml.safe_load(data)):
                raise EncodeError("YAML would change this value")
            return data
        except EncodeError:
            raise
        except RecursionError:
            raise EncodeError("nested too deeply for YAML, or in itself") from None
        except (_yaml.YAMLError, ValueError, TypeError) as error:
            raise EncodeError(f"cannot be written as YAML: {error}") from error

    def loads(self, data: bytes) -> Any:
        """Decode.

        :raises DecodeError: not YAML's safe subset, nested too deeply, or aliases that explode.
        """
        try:
            value = _yaml.safe_load(data)
        except RecursionError:
            raise DecodeError("YAML that is nested too deeply") from None
        except (_yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
            # PyYAML lets errors of int(), datetime() and its own tables through.
            raise DecodeError(f"not YAML that can be read: {error}") from error
        if b"*" in data:
            _check_size(value)
        return value


def _listed(value: Any) -> Any:
    if type(value) is dict:
        return {key: _listed(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [_listed(item) for item in value]
    return value


def _same(before: Any, after: Any) -> bool:
    if type(before) is dict and type(after) is dict:
        return before.keys() == after.keys() and all(
            type(key) in (str, int, bool, float, type(None)) and _same(item, after[key])
            for key, item in before.items()
        )
    if type(before) in (list, tuple) and type(after) is list:
        return len(before) == len(after) and all(map(_same, before, after))
    if type(before) is not type(after):
        return False
    if before != before:  # NaN
        return bool(after != after)
    return bool(before == after)


def _check_size(value: Any) -> None:
    """Refuse a "billion laughs": small while its aliases are shared, endless for who walks it."""
    waiting, seen = [value], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if isinstance(item, dict):
            item = item.values()
        elif not isinstance(item, (list, set, tuple)):
            continue
        if seen + len(waiting) + len(item) > _MAX_NODES:
            raise DecodeError("YAML whose aliases make it too large")
        waiting += item
