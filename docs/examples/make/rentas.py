"""Writes rentas.xlsx: the rent roll, and what the flat costs to run. Formulas are calculated by LibreOffice (see make.sh)."""

import datetime
import sys

from openpyxl import Workbook
from openpyxl.styles import Font

book = Workbook()
roll = book.active
roll.title = "Rentas"
roll["A1"] = "Relación de arrendamientos a 30 de septiembre de 2026"
roll["A1"].font = Font(bold=True, size=13)
roll["A2"] = "Calle de los Almendros Altos 14, 3.º B, Madrid (ejemplo ficticio)"
header = ["Unidad", "Inquilino", "Superficie (m²)", "Renta mensual (€)", "Inicio", "Vencimiento", "Renta por m²"]
for column, name in enumerate(header, 1):
    roll.cell(4, column, name).font = Font(bold=True)
rows = [
    ("Vivienda 3.º B", "Marina Ejemplo Soler", 96.5, 1650, datetime.date(2024, 2, 1), datetime.date(2029, 1, 31)),
    ("Plaza de garaje 14", "Tomás Muestra Gil", 12.5, 110, datetime.date(2025, 6, 1), datetime.date(2027, 5, 31)),
    ("Trastero 9", "Tomás Muestra Gil", 6.2, 45, datetime.date(2025, 6, 1), datetime.date(2027, 5, 31)),
]
for at, row in enumerate(rows, 5):
    for column, value in enumerate(row, 1):
        cell = roll.cell(at, column, value)
        if isinstance(value, datetime.date):
            cell.number_format = "DD/MM/YYYY"
        if column in (3, 4):
            cell.number_format = "#,##0.00"
    roll.cell(at, 7, f"=D{at}/C{at}").number_format = "0.00"
roll["A8"] = "Total"
roll["C8"] = "=SUM(C5:C7)"
roll["D8"] = "=SUM(D5:D7)"

costs = book.create_sheet("Explotación")
costs["A1"], costs["B1"] = "Concepto", "Importe anual (€)"
for at, (what, amount) in enumerate(
    [("Comunidad", "=110*12"), ("IBI", 640), ("Seguro", 280), ("Reparaciones", 600)], 2
):
    costs.cell(at, 1, what)
    costs.cell(at, 2, amount).number_format = "#,##0.00"
costs["A6"], costs["B6"] = "Total", "=SUM(B2:B5)"
labels = [
    ("Tasa de vacancia", 0.04, "0.0%"),
    ("Honorarios de gestión", 0.03, "0.0%"),
    ("Tasa de capitalización", 0.037, "0.0%"),
    ("Tasa de descuento", 0.054, "0.0%"),
    ("Crecimiento anual", 0.02, "0.0%"),
    ("Tasa de salida", 0.039, "0.0%"),
    ("Horizonte (años)", 10, "0"),
    ("Costes de venta", 0.015, "0.0%"),
    ("Base de la renta final", "forward", "@"),
]
for at, (what, value, form) in enumerate(labels, 9):
    costs.cell(at, 1, what)
    costs.cell(at, 2, value).number_format = form
for sheet in book:
    for column in "ABCDEFG":
        sheet.column_dimensions[column].width = 24
book.save(sys.argv[1])
