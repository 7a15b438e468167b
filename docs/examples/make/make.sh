#!/usr/bin/env bash
# Makes the PDF and the workbook of the example dossier anew. The files are in the repository; run this after changing
# what is in them. Needs LibreOffice (libreoffice-writer-nogui, libreoffice-calc-nogui), the DejaVu fonts, and openpyxl
# for python3.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
office() { soffice -env:UserInstallation="file://$WORK/profile" --headless "$@" >/dev/null; }
office --infilter="HTML (StarWriter)" --convert-to pdf:writer_pdf_Export --outdir "$WORK" "$HERE/nota-simple.html"
# Opening and saving calculates the formulas, whose values are what readers of the file see.
"${PYTHON:-python3}" "$HERE/rentas.py" "$WORK/plain.xlsx"
mkdir "$WORK/out"
office --convert-to "xlsx:Calc MS Excel 2007 XML" --outdir "$WORK/out" "$WORK/plain.xlsx"
cp "$WORK/nota-simple.pdf" "$HERE/../dossier/nota-simple.pdf"
cp "$WORK/out/plain.xlsx" "$HERE/../dossier/rentas.xlsx"
