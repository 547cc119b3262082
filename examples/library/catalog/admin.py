from django.contrib import admin

from .models import Author, Book, BookInstance, Genre, Language

admin.site.site_header = "Local Library"
admin.site.site_title = "Local Library"


class BookInline(admin.TabularInline):
    model = Book
    fields = ["title", "published", "language"]
    extra = 0
    show_change_link = True


class CopyInline(admin.TabularInline):
    model = BookInstance
    extra = 0
    autocomplete_fields = ["borrower"]


@admin.register(Author)
class AuthorAdmin(admin.ModelAdmin):
    list_display = ["last_name", "first_name", "date_of_birth", "date_of_death"]
    list_display_links = ["last_name", "first_name"]
    search_fields = ["first_name", "last_name"]
    fields = ["first_name", "last_name", ("date_of_birth", "date_of_death")]
    inlines = [BookInline]


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    list_display = ["title", "author", "published", "language", "genre_names", "has_cover"]
    list_filter = ["genres", "language"]
    list_select_related = ["author", "language"]
    search_fields = ["title", "author__first_name", "author__last_name"]
    autocomplete_fields = ["author"]
    filter_horizontal = ["genres"]
    inlines = [CopyInline]

    def get_queryset(self, request):
        return super().get_queryset(request).prefetch_related("genres")

    @admin.display(description="genres")
    def genre_names(self, book):
        return ", ".join(genre.name for genre in book.genres.all())

    @admin.display(description="cover", boolean=True)
    def has_cover(self, book):
        return bool(book.cover)


@admin.register(BookInstance)
class BookInstanceAdmin(admin.ModelAdmin):
    list_display = ["book", "imprint", "status", "borrower", "due_back"]
    list_filter = ["status", "due_back"]
    list_select_related = ["book", "borrower"]
    search_fields = ["book__title", "imprint", "borrower__username"]
    autocomplete_fields = ["book", "borrower"]
    readonly_fields = ["id"]
    fieldsets = [
        (None, {"fields": ["book", "imprint", "id"]}),
        ("Loan", {"fields": ["status", "borrower", "due_back"]}),
    ]


@admin.register(Genre, Language)
class NameAdmin(admin.ModelAdmin):
    search_fields = ["name"]
