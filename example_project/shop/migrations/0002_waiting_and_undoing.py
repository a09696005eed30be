# ruff: noqa: RUF012 (class attributes as Django's makemigrations writes them)
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("shop", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="BankNotice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("event", models.CharField(db_index=True, max_length=50)),
                ("sent_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Invoice",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("email", models.EmailField(max_length=254)),
                ("total", models.DecimalField(decimal_places=2, max_digits=10)),
                ("made_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.RemoveField(
            model_name="charge",
            name="refunded_at",
        ),
        migrations.AddField(
            model_name="bankcall",
            name="wish",
            field=models.CharField(
                choices=[("charge", "Charge"), ("refund", "Refund")],
                default="charge",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="order",
            name="address",
            field=models.CharField(default="12 Orchard Lane", max_length=50),
        ),
        migrations.AddField(
            model_name="order",
            name="cancel_asked_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="order",
            name="discount",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="order",
            name="discount_answer",
            field=models.TextField(blank=True),
        ),
        migrations.AddField(
            model_name="order",
            name="discount_wish",
            field=models.CharField(blank=True, max_length=100),
        ),
        migrations.AddField(
            model_name="order",
            name="payment",
            field=models.CharField(blank=True, max_length=30),
        ),
        migrations.AddField(
            model_name="order",
            name="trouble",
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name="shipment",
            name="recalled_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AlterField(
            model_name="mail",
            name="order",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="mails",
                to="shop.order",
            ),
        ),
        migrations.AlterField(
            model_name="order",
            name="card",
            field=models.CharField(blank=True, max_length=30),
        ),
        migrations.AlterField(
            model_name="order",
            name="state",
            field=models.CharField(
                choices=[
                    ("PLACED", "received"),
                    ("ACCEPTED", "accepted"),
                    ("UNPAID", "waiting for your payment"),
                    ("PACKING", "paid, being packed"),
                    ("SHIPPED", "on its way"),
                    ("DECLINED", "card declined"),
                    ("EXPIRED", "not paid in time"),
                    ("RETURNED", "not possible, money returned"),
                    ("CANCELLED", "cancelled"),
                ],
                default="PLACED",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="order",
            name="invoice",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="orders",
                to="shop.invoice",
            ),
        ),
        migrations.CreateModel(
            name="Refund",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("idempotency_key", models.CharField(max_length=100, unique=True)),
                ("made_at", models.DateTimeField(auto_now_add=True)),
                (
                    "charge",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="refunds",
                        to="shop.charge",
                    ),
                ),
            ],
        ),
    ]
