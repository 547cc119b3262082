import uuid

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower
from django.urls import reverse
from django.utils import timezone


class Genre(models.Model):
    name = models.CharField(max_length=100)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="genre_name_unique",
                violation_error_message="There is already a genre of this name.",
            ),
        ]

    def __str__(self):
        return self.name


class Language(models.Model):
    name = models.CharField(max_length=100, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self):
        return self.name


class Author(models.Model):
    first_name = models.CharField(max_length=100, blank=True)
    last_name = models.CharField(max_length=100)
    date_of_birth = models.DateField("born", null=True, blank=True)
    date_of_death = models.DateField("died", null=True, blank=True)

    class Meta:
        ordering = ["last_name", "first_name", "pk"]

    def __str__(self):
        return f"{self.first_name} {self.last_name}".strip()

    def get_absolute_url(self):
        return reverse("catalog:author-detail", args=[self.pk])

    @property
    def lifespan(self):
        if not self.date_of_birth and not self.date_of_death:
            return ""
        born = self.date_of_birth.year if self.date_of_birth else "?"
        died = self.date_of_death.year if self.date_of_death else ""
        return f"{born}–{died}"


class Book(models.Model):
    TONES = 6  # how many colours site.css has for books without a picture

    title = models.CharField(max_length=200)
    author = models.ForeignKey(Author, on_delete=models.PROTECT, related_name="books")
    published = models.PositiveSmallIntegerField("year of publication", null=True, blank=True)
    language = models.ForeignKey(
        Language, on_delete=models.SET_NULL, null=True, blank=True, related_name="books"
    )
    genres = models.ManyToManyField(Genre, blank=True, related_name="books")
    summary = models.TextField(max_length=1000, blank=True)
    cover = models.ImageField(upload_to="covers/", blank=True)
    added = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["title", "pk"]

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("catalog:book-detail", args=[self.pk])

    @property
    def tone(self):
        return (self.pk or 0) % self.TONES


class BookInstance(models.Model):
    """One copy on the shelf, or in somebody's bag."""

    class Status(models.TextChoices):
        AVAILABLE = "a", "Available"
        ON_LOAN = "o", "On loan"
        RESERVED = "r", "Reserved"
        MAINTENANCE = "m", "Being repaired"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    book = models.ForeignKey(Book, on_delete=models.CASCADE, related_name="copies")
    imprint = models.CharField(max_length=200, blank=True, help_text="Publisher and edition")
    status = models.CharField(max_length=1, choices=Status, default=Status.AVAILABLE)
    # PROTECT: someone who still has a book of ours can't be deleted.
    borrower = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="loans",
    )
    due_back = models.DateField("due", null=True, blank=True)

    class Meta:
        verbose_name = "copy"
        verbose_name_plural = "copies"
        ordering = ["status", "due_back", "pk"]  # what is available first
        permissions = [("view_all_loans", "Can see who has borrowed what")]
        constraints = [
            models.CheckConstraint(
                condition=(
                    models.Q(status="o", borrower__isnull=False, due_back__isnull=False)
                    | (~models.Q(status="o") & models.Q(borrower=None, due_back=None))
                ),
                name="copy_loan_complete",
                violation_error_message=(
                    "A copy on loan has a borrower and a due date; any other copy has neither."
                ),
            ),
        ]

    def __str__(self):
        return f"{self.book} ({self.get_status_display().lower()})"

    @property
    def is_overdue(self):
        return self.due_back is not None and self.due_back < timezone.localdate()
