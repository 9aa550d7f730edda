#!/bin/sh
# usage: embed.sh CLANG SOURCE INCLUDE OUT.swift NAME
# Compiles one BPF program and writes it as a Swift file: the ELF object in base64, in a StaticString,
# which costs the Swift compiler nothing (an array literal of 120 KB costs it 12 s and 1 GB).
set -eu
clang=$1 source=$2 include=$3 out=$4 name=$5
object=${out%.swift}.o
"$clang" -target bpf -O2 -g -mcpu=v3 -Wall -Wextra -Werror \
    -I"$include" -idirafter "/usr/include/$(uname -m)-linux-gnu" -c "$source" -o "$object"
"${clang%clang}llvm-objcopy" --strip-debug "$object"   # drops DWARF, keeps .BTF and .BTF.ext
printf 'extension BPFObjectImage {\n    package static let %s = BPFObjectImage(name: "%s", base64: "%s")\n}\n' \
    "$name" "$name" "$(base64 -w0 "$object")" > "$out"
